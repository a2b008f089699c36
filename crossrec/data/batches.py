"""Typed batches: tensors gathered whole, never collated row by row."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

PAD = -1
"""Fills the positions of a padded id matrix that hold nothing."""

B = TypeVar("B", bound="Batch")


@dataclass(frozen=True)
class Batch:
    """Base of all batches: knows how to move itself."""

    def to(self: B, device: torch.device | str, **kwargs: Any) -> B:
        """Return the batch with all its tensors on ``device``."""
        moved = {
            f.name: value.to(device, **kwargs)
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), Tensor)
        }
        return replace(self, **moved)


@dataclass(frozen=True)
class PointwiseBatch(Batch):
    """Labelled pairs; all tensors have shape (b,).

    Args:
        users: global user ids.
        items: global item ids.
        labels: float, 1 for an observed pair and 0 for a sampled negative.
        domains: domain index of the row (of its positive).
    """

    users: Tensor
    items: Tensor
    labels: Tensor
    domains: Tensor


@dataclass(frozen=True)
class PairwiseBatch(Batch):
    """Observed pairs with their negatives.

    Args:
        users: (b,) global user ids.
        positives: (b,) global item ids.
        negatives: (b, n) items of the positive's domain that the user has no training row with; n may be 0. For
            objectives with shared negatives this is (n_domains, n): n items of every domain.
        domains: (b,) domain index of the row.
    """

    users: Tensor
    positives: Tensor
    negatives: Tensor
    domains: Tensor


@dataclass(frozen=True)
class SequenceBatch(Batch):
    """Windows of users' training sequences, left-aligned and padded with :data:`PAD`.

    Args:
        users: (b,) global user ids.
        history: (b, l) input items: event t of the window.
        targets: (b, l) the event that follows, PAD where there is none or where it takes no part in the loss.
        negatives: (b, l, n) per position, or (n_domains, n) shared; n may be 0.
        domains: (b, l) domain index of the target, PAD where there is no target.
    """

    users: Tensor
    history: Tensor
    targets: Tensor
    negatives: Tensor
    domains: Tensor


@dataclass(frozen=True)
class QueryBatch(Batch):
    """Users to rank one domain's catalogue for.

    Args:
        users: (q,) global user ids.
        history: (q, l) global item ids of what the user did before, oldest first, left-aligned, padded with PAD;
            l = 0 where histories are not used.
        relevant: (q, r) held-out global item ids of this domain, padded with PAD.
        seen: (q, s) global item ids of this domain to leave out of the ranking, padded with PAD.
        candidates: (q, c) sampled negatives (global item ids) of a sampled protocol; (q, 0) under full ranking.
        domain: domain index, one for the whole batch.
        cold: (q,) bool, the user has no training row in this domain.
    """

    users: Tensor
    history: Tensor
    relevant: Tensor
    seen: Tensor
    candidates: Tensor
    domain: int
    cold: Tensor
