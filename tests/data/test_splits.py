from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corpora import columns, make, random_corpus
from hydra.utils import instantiate
from omegaconf import OmegaConf

from crossrec.data import leakage
from crossrec.data.cold import ColdItem, ColdUser
from crossrec.data.splits import Fixed, LeaveOneOut, Ratio, Split, Temporal, report
from crossrec.errors import CrossrecError

CONF = Path(__file__).parents[2] / "conf"


def test_leave_one_out_by_domain_holds_out_the_last_two_of_each_user_and_domain():
    # user 0: d0 items 0 1 2, d1 items 5 6 7 8, mixed; user 1: two rows in d0 only
    corpus = make(
        [(0, 0, 1), (0, 5, 2), (0, 1, 3), (0, 6, 4), (0, 2, 5), (0, 7, 6), (0, 8, 7), (1, 3, 1), (1, 4, 2)], [5, 5]
    )
    split = LeaveOneOut()(corpus)
    assert split.label.tolist() == [0, 0, 1, 0, 2, 1, 2, 0, 0]
    assert split.ordered
    assert LeaveOneOut(evaluated=["d1"])(corpus).label.tolist() == [0, 0, 0, 0, 0, 1, 2, 0, 0]
    assert LeaveOneOut(min_train=2)(corpus).label.tolist() == [0, 0, 0, 0, 0, 1, 2, 0, 0]
    assert LeaveOneOut(by="sequence")(corpus).label.tolist() == [0, 0, 0, 0, 0, 1, 2, 0, 0]


def test_held_out_repeats_are_dropped_or_kept():
    corpus = make([(0, 0, 1), (0, 1, 2), (0, 1, 3), (0, 0, 4), (1, 2, 1), (1, 3, 2), (1, 4, 3)], [5])
    assert LeaveOneOut()(corpus).label.tolist() == [0, 0, -1, -1, 0, 1, 2]
    kept = LeaveOneOut(repeats="keep")(corpus)
    assert kept.label.tolist() == [0, 0, 1, 2, 0, 1, 2]
    leakage.check(corpus, kept)
    with pytest.raises(CrossrecError, match=r"first row 2 \(user 'u0', item 'i1'\)"):
        leakage.check(corpus, replace(kept, checks=replace(kept.checks, repeats=False)))


def test_test_rows_that_repeat_a_validation_item_or_themselves_are_dropped():
    fixed = np.array([0, 1, 2, 2, 2], dtype=np.int8)
    corpus = make([(0, 0, 1), (0, 1, 2), (0, 1, 3), (0, 2, 4), (0, 2, 5)], [5], fixed=fixed)
    assert Fixed()(corpus).label.tolist() == [0, 1, -1, 2, -1]


def test_temporal_uses_one_instant_for_all_domains():
    corpus = random_corpus(n=2000, n_users=80)
    split = Temporal(valid=0.1, test=0.2)(corpus)
    time = columns(corpus)[2]
    first_valid, first_test = split.checks.instants
    assert time[split.label == 0].max() < first_valid <= time[split.label == 1].min()
    assert time[split.label == 1].max() < first_test <= time[split.label == 2].min()
    assert abs((split.label == 2).mean() - 0.2) < 0.01
    assert abs((split.label == 1).mean() - 0.1) < 0.01
    exact = Temporal(valid_from=5000, test_from=7000)(corpus)
    np.testing.assert_array_equal(exact.label, (time >= 5000).astype(int) + (time >= 7000))
    with pytest.raises(CrossrecError, match="later than"):
        Temporal(valid_from=7000, test_from=5000)(corpus)


def recbole_counts(total, ratios):
    """RecBole 1.2 ``Dataset._calcu_split_ids``, group by group."""
    counts = [int(r * total) for r in ratios]
    counts[0] = total - sum(counts[1:])
    for i in range(1, len(ratios)):
        if counts[0] <= 1:
            break
        if 0 < ratios[-i] * total < 1:
            counts[-i] += 1
            counts[0] -= 1
    return counts


@pytest.mark.parametrize("shares", [(0.8, 0.1, 0.1), (0.6, 0.2, 0.2), (0.8, 0.2, 0.0), (0.9, 0.05, 0.05)])
def test_ratio_counts_are_recboles(shares):
    size = np.arange(1, 300)
    splitter = Ratio(*shares)
    valid, test = splitter.counts(size)
    expected = np.array([recbole_counts(int(n), splitter.shares) for n in size])
    np.testing.assert_array_equal(np.stack([size - valid - test, valid, test], axis=1), expected)


def test_ratio_splits_every_user_and_domain_and_follows_its_seed():
    corpus = random_corpus(n=1500)
    users, _, _, domains = columns(corpus)
    split = Ratio(seed=3)(corpus)
    for user in range(3):
        for domain in range(2):
            found = split.label[(users == user) & (domains == domain)]
            expected = recbole_counts(len(found), (0.8, 0.1, 0.1))
            assert np.bincount(found, minlength=3).tolist() == expected
    np.testing.assert_array_equal(split.label, Ratio(seed=3)(corpus).label)
    assert (split.label != Ratio(seed=4)(corpus).label).any()
    partly = Ratio(evaluated=["d1"])(corpus)
    assert (partly.label[domains == 0] == 0).all() and (partly.label[domains == 1] > 0).any()
    assert not split.ordered


def test_cold_users_have_all_target_rows_held_out():
    corpus = random_corpus(n_users=100, n=900)
    users, _, _, domains = columns(corpus)
    split = ColdUser(0.2, target="d1", source="d0", seed=1)(corpus)
    cold = split.checks.cold_users
    assert len(cold) == round(0.2 * len(corpus.overlap("d0", "d1")))
    np.testing.assert_array_equal(split.label > 0, np.isin(users, cold) & (domains == 1))
    stages = [set(users[split.label == stage]) for stage in (1, 2)]
    assert stages[0] and stages[1] and not stages[0] & stages[1]
    leakage.check(corpus, split)


def test_cold_items_have_all_rows_held_out():
    corpus = random_corpus()
    items = columns(corpus)[1]
    split = ColdItem(0.2, domains=["d1"])(corpus)
    cold = split.checks.cold_items
    assert len(cold) == 5 and (cold >= 15).all()
    np.testing.assert_array_equal(split.label > 0, np.isin(items, cold))
    leakage.check(corpus, split)


def flip(split, rows, value):
    label = split.label.copy()
    label[rows] = value
    return replace(split, label=label)


def test_every_leak_is_found():
    corpus = random_corpus(n=900)
    cases = [
        (Temporal()(corpus), 2, 0, "wrong side"),
        (ColdUser(target="d1")(corpus), 2, 0, "cold user .* has a training row"),
        (ColdItem()(corpus), 2, 0, "cold item .* has a training row"),
        (LeaveOneOut()(corpus), 2, 0, "not the last"),
        (Ratio()(corpus), 2, 3, "labels are"),
    ]
    for split, stage, value, message in cases:
        leakage.check(corpus, split)
        with pytest.raises(CrossrecError, match=message):
            leakage.check(corpus, flip(split, np.flatnonzero(split.label == stage)[:1], value))
    split = LeaveOneOut()(corpus)
    swapped = np.where(split.label == 2, 1, np.where(split.label == 1, 2, split.label)).astype(np.int8)
    with pytest.raises(CrossrecError, match="not the last"):
        leakage.check(corpus, replace(split, label=swapped))
    with pytest.raises(CrossrecError, match="no training row"):
        leakage.check(corpus, flip(split, split.label == 0, -1))
    with pytest.raises(CrossrecError, match="holds no row out"):
        leakage.check(corpus, flip(split, split.label > 0, -1))
    with pytest.raises(CrossrecError, match="labels for"):
        leakage.check(corpus, Split(split.label[1:], True, "short"))


@pytest.mark.parametrize("splitter", [LeaveOneOut(), LeaveOneOut("sequence"), Temporal(), Ratio(), ColdItem()])
@pytest.mark.parametrize("repeats", [False, True])
def test_splits_pass_their_own_checks(splitter, repeats):
    for seed in range(3):
        corpus = random_corpus(seed=seed, repeats=repeats, sizes=(6, 10, 8), n=700)
        leakage.check(corpus, splitter(corpus))


def test_mistakes_are_told():
    corpus = random_corpus(timed=False, ordered=False)
    for splitter, message in [
        (LeaveOneOut(), "needs ordered events"),
        (Temporal(), "instants"),
        (Fixed(), "ships its split"),
        (Ratio(evaluated=["books"]), "no domain 'books'"),
        (ColdUser(target="d1", source="books"), "no domain 'books'"),
    ]:
        with pytest.raises(CrossrecError, match=message):
            splitter(corpus)
    for wrong in (
        lambda: LeaveOneOut(by="user"),
        lambda: LeaveOneOut(min_train=0),
        lambda: Temporal(test=1.0),
        lambda: Ratio(train=0),
        lambda: Ratio(valid=-0.1),
        lambda: ColdUser(1.5, target="d1"),
        lambda: ColdUser(target="d1", source="d1"),
        lambda: ColdItem(valid_share=1.0),
        lambda: LeaveOneOut(repeats="maybe")(random_corpus()),
    ):
        with pytest.raises(CrossrecError):
            wrong()
    with pytest.raises(CrossrecError, match="no user with rows"):
        ColdUser(target="d1")(make([(0, 0, 1), (1, 5, 1)], [5, 5]))


def test_report_counts_every_row_once():
    corpus = random_corpus(repeats=True)
    split = LeaveOneOut()(corpus)
    made = report(corpus, split)["domains"]
    assert sum(d[k] for d in made.values() for k in ("train", "valid", "test", "unused")) == len(split.label)
    assert sum(d["test"] for d in made.values()) == (split.label == 2).sum()


@pytest.mark.parametrize("path", sorted((CONF / "split").glob("*.yaml")), ids=lambda p: p.stem)
def test_configs_build_working_splits(path):
    assert path.read_text().startswith("# ")
    node = OmegaConf.merge({"seed": 0, "target": "d1"}, {"split": OmegaConf.load(path)})
    splitter = instantiate(node.split)
    fixed = (np.arange(600) % 3).astype(np.int8)
    corpus = random_corpus()
    corpus = replace(corpus, fixed=fixed[: corpus.interactions.height])
    split = splitter(corpus)
    leakage.check(corpus, split)
    assert split.name == path.stem
