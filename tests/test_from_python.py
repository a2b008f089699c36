"""The worked example: 100 users and 50 items with given vectors, in plain Python and checked by hand."""

import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from crossrec.evaluation.lists import coverage, item_counts
from crossrec.evaluation.metrics import ndcg, recall
from crossrec.evaluation.ranking import inner_products, rank_relevant, top_k

# in tenths: the first user is (.1, .3, .5, .7, .9), the first item (.2, .4, .6, .8, 1), the others by multiples
USERS = [[k * (i + 1) % 101 for k in (1, 3, 5, 7, 9)] for i in range(100)]
ITEMS = [[k * (j + 1) % 53 for k in (2, 4, 6, 8, 10)] for j in range(50)]
SCORES = [[Fraction(sum(a * b for a, b in zip(u, v)), 100) for v in ITEMS] for u in USERS]


@pytest.fixture
def scores() -> Tensor:
    users, items = torch.tensor(USERS) / 10, torch.tensor(ITEMS) / 10
    return inner_products(users, items)


def test_the_first_score_is_1_9(scores: Tensor) -> None:
    # .1 * .2 + .3 * .4 + .5 * .6 + .7 * .8 + .9 * 1 = .02 + .12 + .3 + .56 + .9
    user, item = torch.tensor([[0.1, 0.3, 0.5, 0.7, 0.9]]), torch.tensor([[0.2, 0.4, 0.6, 0.8, 1.0]])
    assert inner_products(user, item).item() == pytest.approx(1.9)
    assert scores[0, 0].item() == pytest.approx(1.9) and SCORES[0][0] == Fraction(19, 10)


def test_every_score_is_the_sum_of_five_products(scores: Tensor) -> None:
    assert scores.shape == (100, 50)
    assert scores.tolist() == [pytest.approx([float(score) for score in row], rel=1e-5) for row in SCORES]


def test_the_lists_are_the_ten_best_of_each_user(scores: Tensor) -> None:
    lists = top_k(scores, None, 10)
    assert lists.shape == (100, 10) and lists[0].tolist() == [25, 24, 4, 36, 12, 30, 23, 45, 41, 9]
    for row, exact in zip(lists.tolist(), SCORES):
        found = [exact[item] for item in row]
        assert len(set(row)) == 10 and found == sorted(exact, reverse=True)[:10]


def test_seen_items_are_left_out(scores: Tensor) -> None:
    allowed = torch.ones_like(scores, dtype=torch.bool)
    allowed[0, top_k(scores, None, 10)[0, :3]] = False  # the first user has had their three best
    again = top_k(scores, allowed, 10)
    exact = sorted(SCORES[0], reverse=True)
    assert [SCORES[0][item] for item in again[0].tolist()] == exact[3:13]
    assert torch.equal(again[1:], top_k(scores, None, 10)[1:])


def test_metrics_of_a_held_out_item_follow_from_its_rank(scores: Tensor) -> None:
    held_out = torch.full((100, 1), 9)  # the tenth of the first user
    positions = [1 + sum(other > row[9] for other in row) for row in SCORES]
    assert all(row.count(row[9]) == 1 for row in SCORES) and positions[0] == 10 < max(positions)
    ranks = rank_relevant(scores, held_out)
    assert (ranks.better[:, 0] + 1).tolist() == positions
    assert recall(ranks, [10])[:, 0].tolist() == [float(p <= 10) for p in positions]
    expected = [1 / math.log2(p + 1) if p <= 10 else 0.0 for p in positions]
    assert ndcg(ranks, [10])[:, 0].tolist() == pytest.approx(expected)
    shown = {item for row in top_k(scores, None, 10).tolist() for item in row}
    assert coverage(item_counts(top_k(scores, None, 10), [10], 50)).item() == pytest.approx(len(shown) / 50)
