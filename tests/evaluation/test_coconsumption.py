import numpy as np
import pytest

from crossrec.errors import CrossrecError
from crossrec.evaluation.coconsumption import coconsumption_factors


def rows(n_users: int = 30, n_items: int = 20, n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, n_users, n), rng.integers(0, n_items, n)


def test_factors_are_the_scaled_matrixs_singular_vectors() -> None:
    users, items = rows()
    items = items + (items >= 7)  # item 7 has no row
    found = coconsumption_factors(users, items, 22, k=4)
    dense = np.zeros((30, 22))
    dense[users, items] = 1.0
    dense = dense[:, dense.any(0)]
    by_user, by_item = dense.sum(1, keepdims=True), dense.sum(0)
    right = np.linalg.svd(dense / np.sqrt((by_user + by_user.mean()) * (by_item + by_item.mean())))[2][:4].T
    unit = right / np.linalg.norm(right, axis=1, keepdims=True)
    known = np.delete(np.arange(22), [7, 21])
    assert found.shape == (22, 4) and not found[[7, 21]].any()
    np.testing.assert_allclose(found[known] @ found[known].T, unit @ unit.T, atol=1e-8)  # signs and order are free


def test_items_of_the_same_users_point_the_same_way() -> None:
    rng = np.random.default_rng(1)
    group = rng.integers(0, 2, 200)
    users, items = np.repeat(np.arange(200), 6), (rng.integers(0, 10, (200, 6)) + 10 * group[:, None]).ravel()
    factors = coconsumption_factors(users, items, 20, k=2)
    cosine = factors @ factors.T
    assert cosine[:10, :10].min() > 0.9 and cosine[10:, 10:].min() > 0.9 and abs(cosine[:10, 10:]).max() < 0.5


def test_repeated_rows_and_the_order_of_rows_change_nothing_and_the_seed_is_kept() -> None:
    users, items = rows()
    once = coconsumption_factors(users, items, 20, k=3)
    twice = coconsumption_factors(np.tile(users, 2)[::-1], np.tile(items, 2)[::-1], 20, k=3)
    np.testing.assert_allclose(np.abs(once), np.abs(twice), atol=1e-8)
    assert np.array_equal(once, coconsumption_factors(users, items, 20, k=3))


def test_few_rows_give_few_factors_or_are_refused() -> None:
    users, items = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 1, 2, 2, 3])
    assert coconsumption_factors(users, items, 4).shape == (4, 2)
    with pytest.raises(CrossrecError, match="1 users and 6 items with rows: factors need three of each"):
        coconsumption_factors(np.zeros(6, int), np.arange(6), 6)
