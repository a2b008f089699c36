"""From user states and item ids to the scores an objective reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from crossrec.strategies.base import Strategy


def last_state(states: Tensor, mask: Tensor) -> Tensor:
    """State (q, f) after the last real event of left-aligned histories; zero for an empty history.

    Args:
        states: (q, l, f).
        mask: (q, l) bool.
    """
    lengths = mask.sum(1)
    rows = torch.arange(len(states), device=states.device)
    return states[rows, (lengths - 1).clamp_min(0)] * (lengths > 0).unsqueeze(1)


def score_pairs(
    model: Strategy, users: Tensor, items: Tensor, domains: Tensor, negatives: Tensor, weight: Tensor | None
) -> Tensor:
    """Objective on positives and each row's own negatives.

    Args:
        model: owns the item encoder and the objective.
        users: (m, f).
        items: (m, f) vectors of the positives.
        domains: (m,) domain index.
        negatives: (m, n) item ids.
        weight: (m,) or None.
    """
    positive = (users * items).sum(-1)
    negative = torch.einsum("mf,mnf->mn", users, model.item_encoder(negatives))
    sizes = torch.tensor([d.n_items for d in model.domains], device=domains.device)[domains]
    return model.objective.sampled(positive, negative, catalogue_size=sizes, weight=weight)


def score_shared(
    model: Strategy,
    users: Tensor,
    items: Tensor,
    positives: Tensor,
    domains: Tensor,
    negatives: Tensor,
    weight: Tensor | None,
) -> Tensor:
    """Objective on positives and negatives that all rows of a domain share; accidental hits are masked.

    Args:
        model: owns the item encoder and the objective.
        users: (m, f).
        items: (m, f) vectors of the positives.
        positives: (m,) their ids.
        domains: (m,) domain index.
        negatives: (n_domains, n) item ids of each domain.
        weight: (m,) or None.
    """
    total, mass = users.sum() * 0.0, users.new_zeros(())
    for d in model.domains:
        rows = torch.nonzero(domains == d.index).squeeze(1)
        if not len(rows):
            continue
        u = users[rows]
        ids = negatives[d.index]
        scores = u @ model.item_encoder(ids).T
        valid = ids.unsqueeze(0) != positives[rows].unsqueeze(1)
        part = model.objective.sampled(
            (u * items[rows]).sum(-1),
            scores,
            mask=valid,
            catalogue_size=d.n_items,
            weight=None if weight is None else weight[rows],
        )
        share = float(len(rows)) if weight is None else weight[rows].sum()
        total, mass = total + part * share, mass + share
    return total / mass.clamp_min(1e-12)


def score_catalogue(
    model: Strategy, users: Tensor, positives: Tensor, domains: Tensor, weight: Tensor | None
) -> Tensor:
    """Objective on positives against the whole catalogue of their domain.

    Args:
        model: owns the item encoder and the objective.
        users: (m, f).
        positives: (m,) item ids.
        domains: (m,) domain index.
        weight: (m,) or None.
    """
    total, mass = users.sum() * 0.0, users.new_zeros(())
    for d in model.domains:
        rows = torch.nonzero(domains == d.index).squeeze(1)
        if not len(rows):
            continue
        share = None if weight is None else weight[rows]
        part = model.objective.catalogue(users[rows], model.catalogue(d.index), positives[rows] - d.start, weight=share)
        size = float(len(rows)) if share is None else share.sum()
        total, mass = total + part * size, mass + size
    return total / mass.clamp_min(1e-12)
