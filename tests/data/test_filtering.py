import numpy as np
import polars as pl
import pytest

from crossrec.data.filtering import filter_interactions, k_core
from crossrec.errors import CrossrecError


def frame(rows):
    return pl.DataFrame(
        rows, schema={"user": pl.String, "item": pl.String, "rating": pl.Float32, "time": pl.Int64}, orient="row"
    )


def slow_core(pairs, user_core, item_core):
    """Remove one offending row at a time."""
    left = list(range(len(pairs)))
    while True:
        for row in left:
            u, i = pairs[row]
            if sum(pairs[r][0] == u for r in left) < user_core or sum(pairs[r][1] == i for r in left) < item_core:
                left.remove(row)
                break
        else:
            return left


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("user_core", "item_core"), [(2, 2), (3, 2), (0, 3), (4, 0)])
def test_k_core_equals_the_definition(seed, user_core, item_core):
    rng = np.random.default_rng(seed)
    pairs = [(f"u{u}", f"i{i}") for u, i in zip(rng.integers(0, 15, 50), rng.integers(0, 15, 50))]
    rows = pl.DataFrame(pairs, schema=["user", "item"], orient="row").with_row_index("row")
    assert k_core(rows, user_core, item_core)["row"].to_list() == slow_core(pairs, user_core, item_core)


def test_k_core_iterates_to_nothing():
    chain = pl.DataFrame({"user": ["a", "a", "b", "b", "c"], "item": ["1", "2", "2", "3", "3"]})
    assert k_core(chain, 2, 2).height == 0


def test_k_core_does_not_depend_on_the_order_of_rows():
    rng = np.random.default_rng(1)
    rows = pl.DataFrame({"user": rng.integers(0, 40, 300), "item": rng.integers(0, 40, 300)}).with_row_index("row")
    shuffled = rows.sample(fraction=1.0, shuffle=True, seed=2)
    assert set(k_core(rows, 6, 7)["row"]) == set(k_core(shuffled, 6, 7)["row"])


def test_items_of_two_domains_with_one_name_are_counted_apart():
    rows = pl.DataFrame({"user": ["a", "b"], "item": ["1", "1"], "domain": [0, 1]})
    assert k_core(rows, 0, 2).height == 2
    assert k_core(rows, 0, 2, ("domain", "item")).height == 0


def test_rating_threshold_counts_before_the_core():
    rows = frame([("a", "1", 3, 0), ("a", "2", 2.9, 0), ("b", "1", 5, 0), ("b", "2", 5, 0)])
    left, counts = filter_interactions(rows, min_rating=3, user_core=2)
    assert left.rows() == [("b", "1", 5.0, 0), ("b", "2", 5.0, 0)]
    assert counts == {"rating below min_rating": 1, "duplicates": 0, "k-core": 1}


@pytest.mark.parametrize(("duplicates", "times"), [("first", [9, 1]), ("last", [9, 2]), ("keep", [2, 9, 1])])
def test_duplicates_are_judged_by_time_and_file_order_stays(duplicates, times):
    rows = frame([("a", "1", 4, 2), ("b", "1", 4, 9), ("a", "1", 5, 1)])
    left, counts = filter_interactions(rows, duplicates=duplicates)
    expected = [2, 9] if duplicates == "last" else times
    assert left["time"].to_list() == expected
    assert counts["duplicates"] == 3 - len(expected)


def test_duplicates_of_one_instant_are_judged_by_file_order():
    rows = frame([("a", "1", 4, 2), ("a", "1", 5, 2)])
    assert filter_interactions(rows, duplicates="first")[0]["rating"].to_list() == [4.0]
    assert filter_interactions(rows, duplicates="last")[0]["rating"].to_list() == [5.0]


def test_other_columns_are_kept():
    rows = frame([("a", "1", 4, 2)]).with_columns(split=pl.lit(2, pl.Int8))
    assert filter_interactions(rows, 1, 1, 1, "first")[0].equals(rows)


def test_wrong_values():
    rows = frame([("a", "1", 4, 2)])
    with pytest.raises(CrossrecError, match="'both'"):
        filter_interactions(rows, duplicates="both")
    with pytest.raises(CrossrecError, match="user_core=-1"):
        filter_interactions(rows, user_core=-1)
