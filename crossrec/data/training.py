"""Training rows as tensors, and the batches gathered from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crossrec.data.batches import PAD, Batch, PairwiseBatch, PointwiseBatch, SequenceBatch
from crossrec.data.negatives import Negatives, PopularityNegatives, UniformNegatives
from crossrec.data.ragged import Ids
from crossrec.data.schema import Corpus
from crossrec.data.sequences import Windows
from crossrec.data.splits import row_domains


class TrainingRows(ABC):
    """Rows a sampler chooses from.

    Batches are drawn whole, negatives included, and cut afterwards, so that the parts of all processes together are the
    batch of a single one, bit for bit.

    Attributes:
        domains: (n,) domain index of each row.
        lengths: (n,) for rows of unequal length, else None.
    """

    domains: Ids
    lengths: Ids | None = None

    @abstractmethod
    def gather(self, index: Tensor, generator: torch.Generator, part: slice) -> Batch:
        """Build the batch of the rows ``index`` (b,) and return the rows ``part`` of it."""


class PairRows(TrainingRows):
    """One row per interaction.

    Args:
        users: (n,) global user ids.
        items: (n,) global item ids.
        domains: (n,) domain index.
        negatives: draws the negatives.
        n_negatives: of each row.
        shared: the negatives are drawn once for each domain, (n_domains, n_negatives). Pairwise only.
        pointwise: labelled pairs instead of pairs with their negatives.
        liked: (n,) bool, rows that are positives, the others being negatives, for which none is drawn; None: all are.
            Pointwise only.
    """

    def __init__(
        self,
        users: Ids,
        items: Ids,
        domains: Ids,
        negatives: Negatives,
        n_negatives: int,
        *,
        shared: bool = False,
        pointwise: bool = False,
        liked: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        if liked is not None and not pointwise:
            raise ValueError("pairs with their negatives have no labels: pointwise must be True")
        if shared and pointwise:
            raise ValueError("labelled pairs have negatives of their own: shared must be False")
        self.domains = domains
        self._columns = torch.from_numpy(np.stack([users, items, domains], axis=1))
        self._negatives, self._n, self._shared, self._pointwise = negatives, n_negatives, shared, pointwise
        self._liked = None if liked is None else torch.from_numpy(liked)

    def gather(self, index: Tensor, generator: torch.Generator, part: slice) -> Batch:
        """Build the batch of the rows ``index`` (b,) and return the rows ``part`` of it."""
        users, items, domains = self._columns[index].unbind(1)
        if self._shared:
            negatives = self._negatives.shared(self._n, generator)
        else:
            negatives = self._negatives.sample(users, domains, self._n, generator)[part]
        users, items, domains = users[part], items[part], domains[part]
        if not self._pointwise:
            return PairwiseBatch(users.contiguous(), items.contiguous(), negatives, domains.contiguous())
        liked: Tensor | slice = slice(None) if self._liked is None else self._liked[index][part]
        sampled = negatives[liked].reshape(-1)
        labels = torch.zeros(len(users) + len(sampled))
        labels[: len(users)][liked] = 1
        return PointwiseBatch(
            users=torch.cat([users, users[liked].repeat_interleave(self._n)]),
            items=torch.cat([items, sampled]),
            labels=labels,
            domains=torch.cat([domains, domains[liked].repeat_interleave(self._n)]),
        )


class SequenceRows(TrainingRows):
    """One row per window of a user's sequence.

    Negatives of positions without a target are PAD.

    Args:
        windows: the windows.
        negatives: draws the negatives.
        n_negatives: of each target.
        shared: the negatives are drawn once for each domain, (n_domains, n_negatives).
    """

    def __init__(self, windows: Windows, negatives: Negatives, n_negatives: int, *, shared: bool = False) -> None:
        self.domains, self.lengths = windows.domains, windows.lengths
        self._windows, self._negatives, self._n, self._shared = windows, negatives, n_negatives, shared

    def gather(self, index: Tensor, generator: torch.Generator, part: slice) -> SequenceBatch:
        """Build the batch of the windows ``index`` (b,) and return the rows ``part`` of it."""
        users, history, targets, domains = self._windows.gather(index)
        if self._shared:
            negatives = self._negatives.shared(self._n, generator)
        else:
            negatives = torch.full((*targets.shape, self._n), PAD)
            real = targets != PAD
            owners = users.unsqueeze(1).expand_as(targets)[real]
            negatives[real] = self._negatives.sample(owners, domains[real], self._n, generator)
            negatives = negatives[part]
        return SequenceBatch(users[part], history[part], targets[part], negatives, domains[part])


def training_rows(
    corpus: Corpus,
    positive: npt.NDArray[np.bool_],
    domains: Sequence[int],
    *,
    kind: Literal["pointwise", "pairwise", "sequence"],
    negatives: Literal["uniform", "popularity"],
    n_negatives: int,
    shared: bool,
    length: int,
    liked: npt.NDArray[np.bool_] | None = None,
) -> TrainingRows:
    """Lay out the training rows of a corpus.

    Args:
        corpus: the corpus.
        positive: (n_interactions,) the training rows of all domains; none of them is ever drawn as a negative.
        domains: indices of the domains that train.
        kind: of the batches.
        negatives: their distribution.
        n_negatives: of a row, or of a target.
        shared: drawn once for each domain.
        length: most inputs of a window.
        liked: (n_interactions,) rows with label 1, the others having 0; None: all have 1. Pointwise only.
    """
    users = corpus.interactions["user"].to_numpy()
    items, where = corpus.interactions["item"].to_numpy(), row_domains(corpus)
    draws = UniformNegatives if negatives == "uniform" else PopularityNegatives
    positive = positive & np.isin(where, domains)
    drawn = draws(corpus, users[positive], items[positive], warn=n_negatives > 0 and not shared)
    rows = np.flatnonzero(positive)
    if kind != "sequence":
        columns = (users[rows], items[rows], where[rows])
        labels = None if liked is None else liked[rows]
        return PairRows(*columns, drawn, n_negatives, shared=shared, pointwise=kind == "pointwise", liked=labels)
    windows = Windows(users[rows], items[rows], where[rows], length)
    return SequenceRows(windows, drawn, n_negatives, shared=shared)
