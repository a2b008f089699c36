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
class Observations:
    """The rows of a training batch that a loss reads: user, item, domain of each, all (m,).

    Args:
        users: global user ids.
        items: global item ids.
        domains: domain index of the row.
        places: place of the row in the batch of all processes.
        negatives: (m, n) global item ids, or (n_domains, n) shared; n may be 0.
        labels: 1 for a positive and 0 for a negative, sampled or rated low; None: all are positives.
    """

    users: Tensor
    items: Tensor
    domains: Tensor
    places: Tensor
    negatives: Tensor
    labels: Tensor | None = None


@dataclass(frozen=True)
class TrainingBatch(Batch):
    """Base of what is trained on; the process with rank r of n has every n-th row of the whole batch, from row r on."""

    users: Tensor

    def observations(self, rank: int = 0, world_size: int = 1) -> Observations:
        """Rows of the loss; labelled negatives are rows too."""
        raise NotImplementedError

    def _places(self, rank: int, world_size: int) -> Tensor:
        return torch.arange(len(self.users), device=self.users.device) * world_size + rank


@dataclass(frozen=True)
class PointwiseBatch(TrainingBatch):
    """Labelled pairs; all tensors have shape (b,).

    Args:
        users: global user ids.
        items: global item ids.
        labels: float, 1 for a positive and 0 for a negative: sampled, or observed and rated low.
        domains: domain index of the row (of its positive).
    """

    items: Tensor
    labels: Tensor
    domains: Tensor

    def observations(self, rank: int = 0, world_size: int = 1) -> Observations:
        """All rows."""
        places, none = self._places(rank, world_size), self.items.new_empty(len(self.items), 0)
        return Observations(self.users, self.items, self.domains, places, none, self.labels)


@dataclass(frozen=True)
class PairwiseBatch(TrainingBatch):
    """Observed pairs with their negatives.

    Args:
        users: (b,) global user ids.
        positives: (b,) global item ids.
        negatives: (b, n) items of the positive's domain that the user has no training row with; n may be 0. For
            objectives with shared negatives this is (n_domains, n): n items of every domain.
        domains: (b,) domain index of the row.
    """

    positives: Tensor
    negatives: Tensor
    domains: Tensor

    def observations(self, rank: int = 0, world_size: int = 1) -> Observations:
        """All rows, with their positives."""
        return Observations(self.users, self.positives, self.domains, self._places(rank, world_size), self.negatives)


@dataclass(frozen=True)
class SequenceBatch(TrainingBatch):
    """Windows of users' training sequences, left-aligned and padded with :data:`PAD`.

    Args:
        users: (b,) global user ids.
        history: (b, l) input items: event t of the window.
        targets: (b, l) the event that follows, PAD where there is none or where it takes no part in the loss.
        negatives: (b, l, n) per position, or (n_domains, n) shared; n may be 0.
        domains: (b, l) domain index of the target, PAD where there is no target.
    """

    history: Tensor
    targets: Tensor
    negatives: Tensor
    domains: Tensor

    @property
    def real(self) -> Tensor:
        """(b, l) bool, the positions with a target."""
        return self.targets != PAD

    def observations(self, rank: int = 0, world_size: int = 1) -> Observations:
        """Positions with a target, window by window."""
        real, width = self.real, self.targets.shape[1]
        places = self._places(rank, world_size).unsqueeze(1) * width
        return Observations(
            users=self.users.unsqueeze(1).expand_as(real)[real],
            items=self.targets[real],
            domains=self.domains[real],
            places=(places + torch.arange(width, device=places.device))[real],
            negatives=self.negatives[real] if self.negatives.ndim == 3 else self.negatives,
        )


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
        disliked: (q, s) held-out global item ids of this domain that are labelled negatives, padded with PAD; None
            where rows have no labels.
    """

    users: Tensor
    history: Tensor
    relevant: Tensor
    seen: Tensor
    candidates: Tensor
    domain: int
    cold: Tensor
    disliked: Tensor | None = None
