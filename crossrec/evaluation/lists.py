"""What the recommended lists are like, whether or not they are right: coverage, Gini, novelty, diversity."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crossrec.data.batches import PAD

GATHERED = 1 << 23
"""Vector components gathered at once by :func:`diversity`."""


def item_counts(lists: Tensor, ks: Sequence[int], n_items: int) -> Tensor:
    """How many lists hold each item in their first k places.

    Args:
        lists: (q, max(ks)) item columns, best first, padded with PAD.
        ks: cutoffs in ascending order.
        n_items: size of the catalogue.

    Returns:
        (len(ks), n_items) float64.
    """
    starts = [0, *ks[:-1]]
    parts = [lists[:, a:b] for a, b in zip(starts, ks)]
    counts = [torch.bincount(p[p != PAD], minlength=n_items) for p in parts]
    return torch.stack(counts).cumsum(0).double()


def coverage(counts: Tensor) -> Tensor:
    """Share of the catalogue that is in at least one list; counts (..., n_items) -> (...)."""
    return (counts > 0).double().mean(-1)


def gini(counts: Tensor) -> Tensor:
    r"""Gini coefficient of how often items are recommended: 0 all equally, towards 1 a single item.

    G = sum_i (2i - n - 1) x_i / (n sum_i x_i) over the n counts in ascending order, never recommended items included;
    0 when nothing is recommended. counts (..., n_items) -> (...).
    """
    ordered = counts.double().sort(dim=-1).values
    n = counts.shape[-1]
    weight = 2.0 * torch.arange(1, n + 1, dtype=torch.float64, device=counts.device) - n - 1
    total = ordered.sum(-1)
    return torch.where(total > 0, (ordered * weight).sum(-1) / (n * total).clamp_min(1.0), torch.zeros_like(total))


def self_information(popularity: Tensor) -> Tensor:
    """Bits of surprise of every item: -log2((count + 1) / (total + n)), (n_items,) counts -> (n_items,) float64.

    Source: the self-information of Zhou et al., "Solving the apparent diversity-accuracy dilemma of recommender
    systems", PNAS 107 (2010). Deviations: an item's share is that of the training rows, not of the users; 1 is added to
    every count, which gives an item without training rows a finite value.
    """
    counts = popularity.double()
    return -torch.log2((counts + 1.0) / (counts.sum() + len(counts)))


def novelty(lists: Tensor, information: Tensor, ks: Sequence[int]) -> Tensor:
    """Mean self-information in bits of the first k items of each list; 0 for an empty list.

    Args:
        lists: (q, max(ks)) item columns padded with PAD.
        information: (n_items,) from :func:`self_information`.
        ks: cutoffs.

    Returns:
        (q, len(ks)) float64.
    """
    listed = lists != PAD
    known = information[lists.clamp_min(0)] * listed
    # Sums per cutoff, not a cumulative one, which has no deterministic CUDA kernel.
    means = [known[:, :k].sum(1) / listed[:, :k].sum(1).clamp_min(1) for k in ks]
    return torch.stack(means, dim=1)


def diversity(lists: Tensor, vectors: Tensor, ks: Sequence[int]) -> Tensor:
    """Intra-list diversity: mean of 1 - cosine over all pairs of the first k items; 0 for lists shorter than two.

    The pairs are never formed: sum_{i != j} <v_i, v_j> = |sum_i v_i|^2 - sum_i |v_i|^2.

    Source: Ziegler et al., "Improving recommendation lists through topic diversification", WWW 2005. Deviations: theirs
    is a similarity, summed over pairs, of positions in a taxonomy; this is 1 less the mean cosine.

    Args:
        lists: (q, max(ks)) item columns padded with PAD.
        vectors: (n_items, f) of length one, or zero (a zero vector has cosine 0 with everything).
        ks: cutoffs.

    Returns:
        (q, len(ks)) float64.
    """
    step = max(GATHERED // (lists.shape[1] * vectors.shape[1]), 1)
    found = [_diversity(lists[start : start + step], vectors, ks) for start in range(0, len(lists), step)]
    return torch.cat(found) if found else torch.zeros((0, len(ks)), dtype=torch.float64, device=lists.device)


def _diversity(lists: Tensor, vectors: Tensor, ks: Sequence[int]) -> Tensor:
    listed = lists != PAD
    rows = (vectors[lists.clamp_min(0)] * listed.unsqueeze(2)).double()
    alone = rows.square().sum(2)
    values = []
    for k in ks:
        length = listed[:, :k].sum(1).double()
        pairs = rows[:, :k].sum(1).square().sum(1) - alone[:, :k].sum(1)
        values.append(torch.where(length > 1, 1.0 - pairs / (length * (length - 1)).clamp_min(1.0), 0.0))
    return torch.stack(values, dim=1)
