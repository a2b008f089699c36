import numpy as np
import polars as pl
import pytest

from crossrec.data.sources.synthetic import Synthetic
from crossrec.errors import CrossrecError


def positions(domain):
    return np.array([int(name[1:]) for name in domain.interactions["item"]])


def hit_at_10(scores, users, items):
    """Leave each user's last event out; rank it among the items the user has no other event with."""
    last = np.flatnonzero(np.r_[users[1:] != users[:-1], True])
    masked = np.array(scores, dtype=float)
    rest = np.setdiff1d(np.arange(len(users)), last)
    masked[users[rest], items[rest]] = -np.inf
    target = masked[users[last], items[last]]
    return float(((masked > target[:, None]).sum(1) < 10).mean())


def test_true_tastes_beat_popularity_by_far():
    source = Synthetic()
    assert [domain.name for domain in source.read().domains] == source.domain_names() == ["a", "b"]
    for domain, truth in zip(source.read().domains, source.truth()):
        items = positions(domain)
        users = domain.interactions["user"].rank("dense").to_numpy().astype(int) - 1
        order = np.argsort(truth.members)
        popularity = np.broadcast_to(np.bincount(items, minlength=300), truth.scores.shape)
        rows = np.argsort(users, kind="stable")
        true = hit_at_10(truth.scores[order], users[rows], items[rows])
        popular = hit_at_10(popularity, users[rows], items[rows])
        assert true > 0.5
        assert true > 3 * popular


@pytest.mark.parametrize(("shared", "low", "high"), [(0.0, -0.1, 0.1), (0.8, 0.7, 0.9), (1.0, 0.999, 1.001)])
def test_shared_is_the_correlation_of_tastes(shared, low, high):
    a, b = Synthetic(shared=shared, overlap=1.0).truth()
    assert low < np.corrcoef(a.users.ravel(), b.users.ravel())[0, 1] < high


def test_the_same_seed_gives_the_same_rows_and_another_seed_others():
    first, again, other = (Synthetic(seed=s).read().domains for s in (0, 0, 1))
    for a, b, c in zip(first, again, other):
        assert a.interactions.equals(b.interactions) and a.items.equals(b.items)
        assert not a.interactions.equals(c.interactions)


def test_the_global_generator_is_left_alone():
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    Synthetic().read()
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


@pytest.mark.parametrize("overlap", [0.0, 0.5, 1.0])
def test_overlap_sizes_and_distinct_ordered_events(overlap):
    a, b = Synthetic(n_users=[100, 60], n_items=[80, 90], overlap=overlap).read().domains
    people = [set(d.interactions["user"]) for d in (a, b)]
    assert [len(p) for p in people] == [100, 60]
    assert len(people[0] & people[1]) == overlap * 60
    for d, n in ((a, 80), (b, 90)):
        assert d.items.height == n
        assert not d.interactions.select("user", "item").is_duplicated().any()
        assert d.interactions.select((pl.col("time").diff().over("user").fill_null(0) >= 0).all()).item()
        lengths = d.interactions["user"].value_counts()["count"]
        assert lengths.min() >= 10 and lengths.max() <= 30


def test_text_names_the_strongest_factor():
    source = Synthetic()
    domain, truth = source.read().domains[0], source.truth()[0]
    words = domain.items["title"].str.split(" ").list.first().to_numpy()
    strongest = np.abs(truth.items).argmax(1)
    sign = np.take_along_axis(truth.items, strongest[:, None], 1)[:, 0] < 0
    groups = {(f, s): set(words[(strongest == f) & (sign == s)]) for f in range(8) for s in (False, True)}
    assert all(len(g) == 1 for g in groups.values())
    assert len(set.union(*groups.values())) == 16
    assert domain.items["text"].str.contains("domain a").all()
    assert Synthetic(text=False).read().domains[0].items.columns == ["item"]


@pytest.mark.parametrize(
    "options",
    [
        {"n_domains": 0}, {"n_users": [5]}, {"n_items": 0}, {"overlap": 1.1}, {"shared": -0.1}, {"n_factors": 99},
        {"n_items": 20}, {"interactions_per_user": 0}, {"signal": -1.0}, {"seed": -1},
    ],
)  # fmt: skip
def test_values_out_of_range(options):
    with pytest.raises(CrossrecError, match="synthetic source: "):
        Synthetic(**options)
