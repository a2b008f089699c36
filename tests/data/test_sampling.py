from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from crossrec.data.batches import PAD
from crossrec.data.sampling import Cycle, FixedRatio, Proportional, Rows
from crossrec.data.sequences import Windows
from crossrec.errors import CrossrecError

CONF = Path(__file__).parents[2] / "conf"
NAMES = ["books", "films", "food"]


def rows(*counts, lengths=False, seed=0):
    rng = np.random.default_rng(seed)
    domains = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    trained = [k for k, n in enumerate(counts) if n]
    return Rows(domains, NAMES, trained, rng.integers(1, 40, size=len(domains)) if lengths else None)


def batches(plan):
    return [plan.batch(i) for i in range(len(plan))]


SAMPLERS = [Proportional(), Cycle(), FixedRatio({"books": 1, "films": 3})]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("lengths", [False, True])
def test_plans_depend_on_seed_and_epoch_alone(sampler, lengths):
    table = rows(103, 41, lengths=lengths)
    plan = sampler.plan(table, 20, seed=1, epoch=2)
    again = sampler.plan(table, 20, seed=1, epoch=2)
    np.testing.assert_array_equal(plan.order, again.order)
    np.testing.assert_array_equal(plan.bounds, again.bounds)
    assert len(plan) == sampler.length(table, 20)
    for other in (sampler.plan(table, 20, seed=1, epoch=3), sampler.plan(table, 20, seed=2, epoch=2)):
        assert not np.array_equal(plan.order, other.order)
    sizes = np.diff(plan.bounds)
    assert sizes.min() >= sampler.smallest(table, 20) > 10 and sizes.max() <= 21


@pytest.mark.parametrize("lengths", [False, True])
def test_proportional_takes_every_row_once_in_batches_of_one_size(lengths):
    plan = Proportional().plan(rows(103, 41, lengths=lengths), 20, seed=0, epoch=0)
    np.testing.assert_array_equal(np.sort(plan.order), np.arange(144))
    assert len(plan) == 8 and set(np.diff(plan.bounds)) == {18}


@pytest.mark.parametrize("lengths", [False, True])
def test_cycle_gives_equal_shares_and_the_longest_domain_once(lengths):
    table = rows(103, 41, 10, lengths=lengths)
    epochs = [Cycle().plan(table, 30, seed=0, epoch=e) for e in range(2)]
    for plan in epochs:
        for batch in batches(plan):
            counts = np.bincount(table.domains[batch], minlength=3)
            assert counts.max() == counts.min() in (9, 10)
        longest = plan.order[table.domains[plan.order] == 0]
        np.testing.assert_array_equal(np.sort(longest), np.flatnonzero(table.domains == 0))
    if not lengths:  # the stream goes on: 206 rows of the domain of 41 are each row five times and one row a sixth
        seen = np.concatenate([p.order for p in epochs])
        counts = np.bincount(seen, minlength=154)[table.domains == 1]
        assert sorted(set(counts)) == [5, 6] and (counts == 6).sum() == 1
        turns = seen[table.domains[seen] == 1][:82].reshape(2, 41)
        assert set(turns[0]) == set(turns[1]) and not np.array_equal(*turns)


def test_a_cycle_of_the_shortest_domain_reads_the_longest_over_several_epochs():
    table = rows(100, 40)
    plans = [Cycle("shortest").plan(table, 20, seed=0, epoch=e) for e in range(5)]
    for plan in plans:
        assert len(plan) == 4
        np.testing.assert_array_equal(np.bincount(table.domains[plan.order]), [40, 40])
        np.testing.assert_array_equal(
            np.sort(plan.order)[table.domains[np.sort(plan.order)] == 1], np.flatnonzero(table.domains == 1)
        )
    seen = np.concatenate([p.order for p in plans])
    assert set(np.bincount(seen, minlength=140)[table.domains == 0]) == {2}


def test_fixed_ratio_gives_the_shares_and_goes_on_where_it_stopped():
    table = rows(900, 100)
    sampler = FixedRatio({"books": 0.5, "films": 1.5})
    plan = sampler.plan(table, 100, seed=0, epoch=0)
    assert len(plan) == 10
    for batch in batches(plan):
        assert np.bincount(table.domains[batch]).tolist() == [25, 75]
    books = np.concatenate([sampler.plan(table, 100, 0, e).order for e in range(4)])
    books = books[table.domains[books] == 0]
    assert len(set(books[:900])) == 900
    only = FixedRatio({"books": 1, "films": 0}).plan(table, 100, 0, 0)
    assert set(table.domains[only.order]) == {0}


def test_length_buckets_save_padding_and_keep_batches_in_random_order():
    table = rows(6000, 3000, lengths=True)
    for sampler in SAMPLERS[:2]:
        plan = sampler.plan(table, 30, seed=0, epoch=0)
        longest = np.array([table.lengths[b].max() for b in batches(plan)])
        padded = (longest * np.diff(plan.bounds)).sum() / table.lengths[plan.order].sum()
        assert padded < 1.15
        assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.3


def test_mistakes_are_told():
    for ratios in ({}, {"books": -1, "films": 2}, {"books": 0}):
        with pytest.raises(CrossrecError, match="ratios"):
            FixedRatio(ratios)
    with pytest.raises(CrossrecError, match="longest or shortest"):
        Cycle("middle")
    with pytest.raises(CrossrecError, match="each of books, films"):
        FixedRatio({"books": 1, "food": 1}).plan(rows(10, 10), 5, 0, 0)
    with pytest.raises(CrossrecError, match="'food' has no training row"):
        Cycle().plan(Rows(np.zeros(5, dtype=np.int64), NAMES, [0, 2]), 5, 0, 0)
    with pytest.raises(CrossrecError, match="no training row is left"):
        Proportional().plan(Rows(np.zeros(0, dtype=np.int64), NAMES, [0]), 5, 0, 0)


@pytest.mark.parametrize("path", sorted((CONF / "sampler").glob("*.yaml")), ids=lambda p: p.stem)
def test_configs_build_working_samplers(path):
    assert path.read_text().startswith("# ")
    node = OmegaConf.load(path)
    if path.stem == "fixed_ratio":
        node.ratios = {"books": 1, "films": 1}
    assert len(instantiate(node).plan(rows(10, 10), 4, 0, 0)) == 5


def events(seed=0, n_users=30, n=400):
    rng = np.random.default_rng(seed)
    users = np.sort(rng.integers(n_users, size=n))
    return users, rng.integers(100, size=n), rng.integers(2, size=n)


@pytest.mark.parametrize("length", [1, 3, 7, 100])
def test_windows_make_every_event_after_the_first_a_target_once(length):
    users, items, domains = events()
    windows = Windows(users, items, domains, length)
    owners, history, targets, kinds = windows.gather(torch.arange(len(windows)))
    assert history.shape == targets.shape == kinds.shape and history.shape[1] <= length
    for user in range(30):
        own, where = items[users == user], domains[users == user]
        mine = owners == user
        real = targets[mine] != PAD
        np.testing.assert_array_equal(targets[mine][real], own[1:])
        np.testing.assert_array_equal(kinds[mine][real], where[1:])
        np.testing.assert_array_equal(history[mine][real], own[:-1])
        assert (history[mine][~real] == PAD).all() and (kinds[mine][~real] == PAD).all()
    np.testing.assert_array_equal(windows.lengths, (targets != PAD).sum(1))
    last = kinds.gather(1, torch.from_numpy(windows.lengths - 1)[:, None])[:, 0]
    np.testing.assert_array_equal(windows.domains, last)


def test_batches_are_as_wide_as_their_longest_window():
    windows = Windows(np.array([0, 0, 1, 1, 1, 1]), np.arange(6), np.zeros(6, dtype=np.int64), 10)
    assert windows.gather(torch.tensor([0]))[1].tolist() == [[0]]
    assert windows.gather(torch.tensor([0, 1]))[1].tolist() == [[0, PAD, PAD], [2, 3, 4]]
