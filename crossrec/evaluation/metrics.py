"""Per-query ranking metrics as functions of exact ranks; equal scores take the expected value over all their orders.

All functions take :class:`~crossrec.evaluation.ranking.Ranks` of q queries and cutoffs ``ks`` (positive, any order) and
return float64 of shape (q, len(ks)), 0 for a query with no relevant item. The relevant items are R, position p counts
from 1. A relevant item with g better candidates in a tie group of t takes each of the positions g+1 .. g+t with
probability 1/t, which makes the linear metrics means over positions; hit and reciprocal rank follow from the exact
distribution of the first relevant position, and average precision from the expected number of relevant items before a
position. Apart from ties, the values are those of trec_eval (except :func:`average_precision`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crossrec.evaluation.ranking import Ranks


def recall(ranks: Ranks, ks: Sequence[int]) -> Tensor:
    """Share of the relevant items in the first k positions: |R in top k| / |R|."""
    return _found(ranks, ks) / _at_least_one(ranks)


def precision(ranks: Ranks, ks: Sequence[int]) -> Tensor:
    """Share of the first k positions that are relevant: |R in top k| / k, however many candidates there are."""
    return _found(ranks, ks) / _cutoffs(ks, ranks)


def hit(ranks: Ranks, ks: Sequence[int]) -> Tensor:
    """Probability that a relevant item is in the first k positions (hypergeometric within a tie group)."""
    probability, position = _first_relevant(ranks, max(ks))
    return _sum_up_to(probability, position, ks)


def mrr(ranks: Ranks, ks: Sequence[int]) -> Tensor:
    """Expected reciprocal rank of the first relevant item, 0 if it is not in the first k positions."""
    probability, position = _first_relevant(ranks, max(ks))
    return _sum_up_to(probability / position, position, ks)


def accuracy(ranks: Ranks) -> Tensor:
    """Probability that the first position is relevant, (q,); the same as hit at 1."""
    return hit(ranks, (1,))[:, 0]


def ndcg(ranks: Ranks, ks: Sequence[int]) -> Tensor:
    """Binary-gain NDCG: sum of 1/log2(p+1) over relevant p <= k, over that of an ideal list of min(k, |R|).

    Source: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 20 (2002), with the
    discount of Burges et al., "Learning to rank using gradient descent", ICML 2005, from the first position on.
    """
    positions = torch.arange(1, max(ks) + 1, dtype=torch.float64)
    gained = _cumulative(1.0 / torch.log2(positions + 1.0), ranks)
    first, last = _span(ranks, ks)
    shares = (gained[last] - gained[first]) / ranks.ties.unsqueeze(2)
    ideal = gained[torch.minimum(ranks.n_relevant.unsqueeze(1), _cutoffs(ks, ranks)).clamp_min(1)]
    return _over_relevant(ranks, shares) / ideal


def average_precision(ranks: Ranks, ks: Sequence[int]) -> Tensor:
    """AP@k: sum over relevant p <= k of precision at p, over min(k, |R|) (trec_eval divides by |R|).

    In a tie group of t candidates, m of them relevant, after g candidates with M relevant ones, position p is relevant
    with probability m/t and then has M + (p-g-1)(m-1)/(t-1) relevant items before it in expectation.
    """
    harmonic = _cumulative(1.0 / torch.arange(1, max(ks) + 1, dtype=torch.float64), ranks)
    first, last = _span(ranks, ks)
    ties = ranks.ties.double().unsqueeze(2)
    slope = (ranks.relevant_ties.double().unsqueeze(2) - 1.0) / (ties - 1.0).clamp_min(1.0)
    level = ranks.relevant_better.unsqueeze(2) + 1.0 - (ranks.better.unsqueeze(2) + 1.0) * slope
    shares = (level * (harmonic[last] - harmonic[first]) + slope * (last - first)) / ties
    return _over_relevant(ranks, shares) / torch.minimum(_at_least_one(ranks), _cutoffs(ks, ranks))


def auc(ranks: Ranks) -> Tensor:
    """Share of (relevant, other candidate) pairs in the right order, ties half, (q,); 0.5 where there is no pair."""
    others = (ranks.n_candidates - ranks.n_relevant).unsqueeze(1)
    better = ranks.better - ranks.relevant_better
    tied = ranks.ties - ranks.relevant_ties
    won = (_over_relevant(ranks, (others - better - 0.5 * tied).double().unsqueeze(2)))[:, 0]
    pairs = (ranks.n_relevant * others[:, 0]).double()
    return torch.where(pairs > 0, won / pairs.clamp_min(1.0), torch.where(ranks.n_relevant > 0, 0.5, 0.0).to(won))


AT_K = {"recall": recall, "precision": precision, "hit": hit, "ndcg": ndcg, "mrr": mrr, "map": average_precision}
"""Metrics with a cutoff by their name in results."""

WITHOUT_K = {"accuracy": accuracy, "auc": auc}
"""Metrics without a cutoff by their name in results."""


def names(ks: Sequence[int]) -> list[str]:
    """Names of the columns of :func:`evaluate`: ``recall@1, recall@5, ..., map@20, accuracy, auc``."""
    return [f"{name}@{k}" for name in AT_K for k in ks] + list(WITHOUT_K)


def evaluate(ranks: Ranks, ks: Sequence[int]) -> Tensor:
    """All metrics of every query, (q, len(names(ks))) float64."""
    probability, position = _first_relevant(ranks, max(ks))  # shared by hit, mrr and accuracy
    first = {
        "hit": _sum_up_to(probability, position, ks),
        "mrr": _sum_up_to(probability / position, position, ks),
    }
    parts = [first[name] if name in first else function(ranks, ks) for name, function in AT_K.items()]
    parts += [_sum_up_to(probability, position, (1,)), auc(ranks).unsqueeze(1)]
    return torch.cat(parts, dim=1)


def _cutoffs(ks: Sequence[int], ranks: Ranks) -> Tensor:
    return torch.tensor(list(ks), dtype=torch.int64, device=ranks.better.device)


def _cumulative(values: Tensor, ranks: Ranks) -> Tensor:
    # Summed on the CPU: CUDA has no deterministic kernel for it.
    return torch.cat([values.new_zeros(1), values.cumsum(0)]).to(ranks.better.device)


def _at_least_one(ranks: Ranks) -> Tensor:
    return ranks.n_relevant.clamp_min(1).unsqueeze(1)


def _span(ranks: Ranks, ks: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Positions g and g+t of every relevant item's tie group, both cut at k: (q, r, len(ks)) int64."""
    cut = _cutoffs(ks, ranks)
    first = ranks.better.unsqueeze(2)
    return torch.minimum(first, cut), torch.minimum(first + ranks.ties.unsqueeze(2), cut)


def _over_relevant(ranks: Ranks, values: Tensor) -> Tensor:
    return (values * ranks.valid.unsqueeze(2)).sum(1)


def _found(ranks: Ranks, ks: Sequence[int]) -> Tensor:
    """Expected number of relevant items in the first k positions."""
    first, last = _span(ranks, ks)
    return _over_relevant(ranks, (last - first).double() / ranks.ties.unsqueeze(2))


def _first_relevant(ranks: Ranks, depth: int) -> tuple[Tensor, Tensor]:
    """Distribution of the position of the first relevant item.

    Within the best tie group that holds relevant ones (m of t), the draws before the first success are without
    replacement: P(j failures, then a success) = prod_{i<j} (t-m-i)/(t-i) * m/(t-j).

    Returns:
        (q, n) probabilities and (q, n) int64 positions, n <= depth enough to know all positions up to ``depth``.
    """
    if ranks.valid.shape[1] == 0:
        none = torch.zeros((len(ranks.valid), 1), dtype=torch.float64, device=ranks.better.device)
        return none, torch.ones_like(none, dtype=torch.int64)
    far = torch.full_like(ranks.better, torch.iinfo(torch.int64).max)
    best = torch.where(ranks.valid, ranks.better, far).argmin(1, keepdim=True)
    before, tied = ranks.better.gather(1, best), ranks.ties.gather(1, best)
    relevant = torch.where(ranks.valid.gather(1, best), ranks.relevant_ties.gather(1, best), torch.zeros_like(tied))
    n = max(min(depth, int(tied.max()) if len(tied) else 1), 1)
    failures = torch.arange(n, device=ranks.better.device)
    left = (tied - failures).clamp_min(1).double()
    survive = ((tied - relevant - failures).clamp_min(0).double() / left).cumprod(1)
    survive = torch.cat([torch.ones_like(survive[:, :1]), survive[:, :-1]], dim=1)
    return survive * relevant / left * (failures < tied), before + failures + 1


def _sum_up_to(values: Tensor, position: Tensor, ks: Sequence[int]) -> Tensor:
    return torch.stack([(values * (position <= k)).sum(1) for k in ks], dim=1)
