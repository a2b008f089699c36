"""From user states and item ids to the scores an objective reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from crossrec.adaptation.gather import gather_rows, world_size
from crossrec.data.batches import PAD, Observations, SequenceBatch, TrainingBatch
from crossrec.objectives.base import InBatchRows

if TYPE_CHECKING:
    from crossrec.data.schema import Domain
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


def share_of_mean(model: Strategy, loss: Tensor, weight: Tensor | None, rows: int) -> Tensor:
    """Weigh a process's mean by its rows: the mean over processes is then the mean over the global batch.

    Args:
        model: knows the processes; its objective may have given the mean over the global batch already.
        loss: mean over this process's rows.
        weight: (rows,) or None.
        rows: of this process.
    """
    if world_size() == 1 or model.objective.batchwise:
        return loss
    mass = loss.new_tensor(float(rows)) if weight is None else weight.sum()
    mean = cast(Tensor, model.trainer.strategy.reduce(mass.clone(), reduce_op="mean"))
    return loss * (mass / mean.clamp_min(1e-12))


def score_rows(
    model: Strategy, batch: TrainingBatch, rows: Observations, users: Tensor, items: Tensor, weight: Tensor | None
) -> Tensor:
    """Objective on a batch whose items are its own and those sampled for it.

    Args:
        model: gives the item vectors and owns the objective.
        batch: of this process.
        rows: its observations.
        users: (m, f).
        items: (m, f) vectors of the rows' items.
        weight: (m,) or None.
    """
    if rows.labels is not None:
        return model.objective.labelled(model.pair_scores(users, items), rows.labels, weight=weight)
    if model.objective.batchwise:
        return score_in_batch(model, batch, rows, users, items, weight)
    if model.objective.shared:
        return score_shared(model, users, items, rows.items, rows.domains, rows.negatives, weight)
    return score_pairs(model, users, items, rows.domains, rows.negatives, weight)


def score_pairs(
    model: Strategy, users: Tensor, items: Tensor, domains: Tensor, negatives: Tensor, weight: Tensor | None
) -> Tensor:
    """Objective on positives and each row's own negatives.

    Args:
        model: gives the item vectors and owns the objective.
        users: (m, f).
        items: (m, f) vectors of the positives.
        domains: (m,) domain index.
        negatives: (m, n) item ids.
        weight: (m,) or None.
    """
    positive = (users * items).sum(-1)
    negative = torch.einsum("mf,mnf->mn", users, model.item_vectors(negatives))
    return model.objective.sampled(positive, negative, catalogue_size=model.sizes[domains], weight=weight)


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
        model: gives the item vectors and owns the objective.
        users: (m, f).
        items: (m, f) vectors of the positives.
        positives: (m,) their ids.
        domains: (m,) domain index.
        negatives: (n_domains, n) item ids of each domain.
        weight: (m,) or None.
    """

    def loss(d: Domain, rows: Tensor, share: Tensor | None) -> Tensor:
        u = users[rows]
        ids = negatives[d.index]
        scores = u @ model.item_vectors(ids).T
        valid = ids.unsqueeze(0) != positives[rows].unsqueeze(1)
        return model.objective.sampled(
            (u * items[rows]).sum(-1), scores, mask=valid, catalogue_size=d.n_items, weight=share
        )

    return _over_domains(model, users, domains, weight, loss)


def score_catalogue(
    model: Strategy, users: Tensor, positives: Tensor, domains: Tensor, weight: Tensor | None
) -> Tensor:
    """Objective on positives against the whole catalogue of their domain.

    Args:
        model: gives the item vectors and owns the objective.
        users: (m, f).
        positives: (m,) item ids.
        domains: (m,) domain index.
        weight: (m,) or None.
    """

    def loss(d: Domain, rows: Tensor, share: Tensor | None) -> Tensor:
        return model.objective.catalogue(users[rows], model.catalogue(d.index), positives[rows] - d.start, weight=share)

    return _over_domains(model, users, domains, weight, loss)


def score_in_batch(
    model: Strategy, batch: TrainingBatch, rows: Observations, users: Tensor, items: Tensor, weight: Tensor | None
) -> Tensor:
    """Objective on the positives of a batch as one another's negatives, the same in every process.

    Args:
        model: owns the objective.
        batch: of this process.
        rows: its observations.
        users: (m, f).
        items: (m, f) vectors of the positives.
        weight: (m,) or None.
    """
    users, items, ids, owners = gather_rows(users, items, rows.items, rows.users)
    events = gather_rows(_events(model, batch, rows))[0] if model.objective.reads_events else None
    every = InBatchRows(users, items, ids, model.entities[ids], owners, events)
    return model.objective.in_batch(every, weight=None if weight is None else gather_rows(weight)[0])


def _events(model: Strategy, batch: TrainingBatch, rows: Observations) -> Tensor:
    """(e, 2) user and entity of everything that the batch shows of its users, inputs and targets."""
    users, items = rows.users, rows.items
    if isinstance(batch, SequenceBatch):
        real = batch.history != PAD
        users = torch.cat([users, batch.users.unsqueeze(1).expand_as(real)[real]])
        items = torch.cat([items, batch.history[real]])
    return torch.stack([users, model.entities[items]], 1)


def _over_domains(
    model: Strategy,
    users: Tensor,
    domains: Tensor,
    weight: Tensor | None,
    loss: Callable[[Domain, Tensor, Tensor | None], Tensor],
) -> Tensor:
    """Mean over all rows of a loss that is computed a domain at a time.

    Args:
        model: knows the domains.
        users: (m, f), to which the loss of no rows is tied.
        domains: (m,) domain index.
        weight: (m,) weight of each row in the mean; None is 1 each.
        loss: domain, its rows (k,), their weights (k,) or None -> mean loss of these rows.
    """
    total, mass = users.sum() * 0.0, users.new_zeros(())
    for d in model.domains:
        rows = torch.nonzero(domains == d.index).squeeze(1)
        share = None if weight is None else weight[rows]
        if not len(rows) or (share is not None and not share.any()):
            continue
        size = float(len(rows)) if share is None else share.sum()
        total, mass = total + loss(d, rows, share) * size, mass + size
    return total / mass.clamp_min(1e-12)
