"""What a recommendation loss is, whatever form its batches have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from crossrec import ranges


@dataclass(frozen=True)
class InBatchRows:
    """Rows of a whole batch, of which each is a candidate of the others.

    Args:
        users: (m, f) user vectors.
        items: (m, f) vectors of the rows' positives.
        ids: (m,) item ids of the positives.
        entities: (m,) entities of the positives.
        owners: (m,) user ids.
        events: (e, 2) user id and entity of all that the batch shows of its users, inputs and targets; repeats allowed.
            None for an objective that does not read them.
    """

    users: Tensor
    items: Tensor
    ids: Tensor
    entities: Tensor
    owners: Tensor
    events: Tensor | None = None


class Objective(nn.Module):
    """A loss on scores; a subclass implements the call forms it has.

    Attributes:
        batch: the form of its batches where user vectors are looked up by id: ``pointwise`` calls :meth:`labelled`,
            ``pairwise`` calls :meth:`sampled` or :meth:`catalogue`. Sequence batches always take the latter two.
        n_negatives: negatives drawn for each positive, or for each domain where ``shared``.
        shared: the negatives are drawn once for each domain and shared by the batch's rows.
        full: wants the scores of the positive's whole domain (:meth:`catalogue`) and no negatives.
        batchwise: takes the positives of the batch's other rows as negatives (:meth:`in_batch`).
        reads_events: of a batch's rows it reads :attr:`InBatchRows.events` too.
    """

    batch: Literal["pointwise", "pairwise"] = "pairwise"
    n_negatives: int = 0
    shared: bool = False
    full: bool = False
    batchwise: bool = False
    reads_events: bool = False

    def prepare(self, counts: Tensor) -> None:
        """Take what a loss needs to know of the training rows of every item, ``counts`` (n_items,); called once."""

    def scored(self, vectors: Tensor) -> Tensor:
        """Return what is scored of user or item vectors (n, f), in training and in ranking; by default themselves."""
        return vectors

    def labelled(self, logits: Tensor, labels: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """Mean loss of labelled pairs.

        Args:
            logits: (m,) scores.
            labels: (m,) 1 for a positive, 0 for a negative.
            weight: (m,) weight of each row in the mean; None is 1 each.
        """
        raise NotImplementedError(f"{type(self).__name__} has no loss of labelled pairs")

    def sampled(
        self,
        positive: Tensor,
        negative: Tensor,
        *,
        mask: Tensor | None = None,
        catalogue_size: Tensor | int | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Mean loss of positives against sampled negatives.

        Args:
            positive: (m,) scores of the positives.
            negative: (m, n) scores of the negatives.
            mask: (m, n) bool, True where the negative is valid; None when all are.
            catalogue_size: number of items of the positive's domain, one for all rows or (m,).
            weight: (m,) weight of each row in the mean; None is 1 each.
        """
        raise NotImplementedError(f"{type(self).__name__} has no loss of sampled negatives")

    def catalogue(self, users: Tensor, items: Tensor, target: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """Mean loss of rows against a whole catalogue.

        Args:
            users: (m, f) user vectors.
            items: (c, f) vectors of all items of a domain.
            target: (m,) position of the positive among them.
            weight: (m,) weight of each row in the mean; None is 1 each.
        """
        raise NotImplementedError(f"{type(self).__name__} has no loss over a whole catalogue")

    def in_batch(self, rows: InBatchRows, *, weight: Tensor | None = None) -> Tensor:
        """Mean loss of rows against one another's positives.

        Args:
            rows: of the whole batch, of all processes.
            weight: (m,) weight of each row in the mean; None is 1 each.
        """
        raise NotImplementedError(f"{type(self).__name__} has no loss within a batch")


def weighted_mean(losses: Tensor, weight: Tensor | None) -> Tensor:
    """Return sum(w * l) / sum(w) of ``losses`` (m,); zero, tied to the graph, when the weights sum to zero."""
    if weight is None:
        return losses.mean() if losses.numel() else losses.sum()
    weight = weight.to(losses.dtype)
    mass = weight.sum()
    return (losses * weight).sum() / mass.where(mass > 0, 1.0)


def at_least(name: str, value: float, least: float, *, strictly: bool = False) -> None:
    """Refuse an option's value below its least.

    Raises:
        CrossrecError: names the option and what it may be.
    """
    ranges.at_least(f"objective.{name}", value, least, strictly=strictly)
