"""What trains: its rows, how many of each item, and who has some where."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from crossrec.data.ragged import Ids
from crossrec.data.schema import Corpus
from crossrec.data.splits import TRAIN, Split, row_domains


def train_rows(
    corpus: Corpus, split: Split, domains: Sequence[int], *, positive: bool = False
) -> npt.NDArray[np.bool_]:
    """Which interactions train, (n_interactions,) bool.

    Args:
        corpus: the corpus.
        split: its labels.
        domains: indices of the domains whose rows count.
        positive: count positives alone, where rows are labelled.
    """
    chosen: npt.NDArray[np.bool_] = (split.label == TRAIN) & np.isin(row_domains(corpus), domains)
    if positive and split.positive is not None:
        chosen &= split.positive
    return chosen


def train_counts(corpus: Corpus, split: Split, domains: Sequence[int], *, positive: bool = False) -> Ids:
    """Training rows of every item, (n_items,); arguments as those of :func:`train_rows`."""
    chosen = train_rows(corpus, split, domains, positive=positive)
    return np.bincount(corpus.interactions["item"].to_numpy()[chosen], minlength=corpus.n_items).astype(np.int64)


def train_membership(corpus: Corpus, split: Split, domains: Sequence[int]) -> npt.NDArray[np.bool_]:
    """Who has a training row in which of the ``domains`` that train, (n_users, n_domains): other rows tell nothing."""
    trained, member = train_rows(corpus, split, domains), np.zeros_like(corpus.membership)
    member[corpus.interactions["user"].to_numpy()[trained], row_domains(corpus)[trained]] = True
    return member
