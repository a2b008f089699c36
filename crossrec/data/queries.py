"""Whom to rank a domain's catalogue for: one query per user with held-out rows there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from crossrec.data.batches import QueryBatch
from crossrec.data.ragged import Ids, Ragged, contained, distinct
from crossrec.data.schema import Corpus
from crossrec.data.splits import TRAIN, Split, row_domains


@dataclass(frozen=True)
class Queries:
    """All queries of one domain and stage, users ascending; fields as in :class:`~crossrec.data.batches.QueryBatch`.

    Args:
        users: (q,) global user ids.
        history: events before the first held-out one, oldest first.
        relevant: held-out items.
        seen: items of earlier stages.
        candidates: (q, c), c = 0 under full ranking.
        domain: domain index.
        cold: (q,) bool.
        disliked: held-out items that are labelled negatives; None where rows have no labels.
    """

    users: Tensor
    history: Ragged
    relevant: Ragged
    seen: Ragged
    candidates: Tensor
    domain: int
    cold: Tensor
    disliked: Ragged | None = None

    def __len__(self) -> int:
        return len(self.users)

    def take(self, index: Tensor) -> Queries:
        """Return the queries ``index``."""
        return Queries(
            users=self.users[index],
            history=self.history.take(index),
            relevant=self.relevant.take(index),
            seen=self.seen.take(index),
            candidates=self.candidates[index],
            domain=self.domain,
            cold=self.cold[index],
            disliked=None if self.disliked is None else self.disliked.take(index),
        )

    def with_candidates(self, candidates: Tensor) -> Queries:
        """Return the same queries with sampled ``candidates`` (q, c)."""
        return replace(self, candidates=candidates)

    def batch(self) -> QueryBatch:
        """Gather all of them into one batch."""
        return QueryBatch(
            users=self.users,
            history=self.history.padded(),
            relevant=self.relevant.padded(),
            seen=self.seen.padded(),
            candidates=self.candidates,
            domain=self.domain,
            cold=self.cold,
            disliked=None if self.disliked is None else self.disliked.padded(),
        )


def stage_queries(
    corpus: Corpus, split: Split, stage: int, domain: int, history_domains: Sequence[int], history_length: int
) -> Queries:
    """Build the queries of one stage and domain.

    ``seen`` holds the user's items of earlier stages in the domain, without those that are relevant again. ``history``
    holds rows of earlier stages: under an ordered split those strictly before the query's first held-out row in the
    user's own order, otherwise all of them, in file order. Under a labelled split ``relevant`` are the positives, and
    users with none have a query too, without a relevant item.

    Args:
        corpus: the corpus.
        split: its labels.
        stage: label of the held-out rows, 1 or 2.
        domain: index of the domain to rank.
        history_domains: indices of the domains histories are made of.
        history_length: most events of a history, the latest; 0 for none.
    """
    users = corpus.interactions["user"].to_numpy()
    items = corpus.interactions["item"].to_numpy()
    domains, base = row_domains(corpus), corpus.n_items
    here, earlier = domains == domain, (split.label >= TRAIN) & (split.label < stage)
    held = np.flatnonzero((split.label == stage) & here)
    queried, first = np.unique(users[held], return_index=True)
    queried = queried.astype(np.int64)
    keys, liked = users[held] * base + items[held], None if split.positive is None else split.positive[held]
    relevant = distinct(keys if liked is None else keys[liked])
    seen = distinct((users * base + items)[earlier & here])
    seen = _without(seen, relevant)
    rows = np.flatnonzero(earlier & np.isin(domains, history_domains)) if history_length else held[:0]
    starts = np.searchsorted(users[rows], queried).astype(np.int64)
    if split.ordered:
        stops = np.searchsorted(rows, held[first]).astype(np.int64)
    else:
        stops = np.searchsorted(users[rows], queried, side="right").astype(np.int64)
    return Queries(
        users=torch.from_numpy(queried),
        history=Ragged.between(items[rows], np.maximum(starts, stops - history_length), stops),
        relevant=Ragged.of_keys(relevant, queried, base),
        seen=Ragged.of_keys(seen, queried, base),
        candidates=torch.empty(len(queried), 0, dtype=torch.long),
        domain=domain,
        cold=torch.from_numpy(~contained(queried, distinct(users[here & (split.label == TRAIN)]))),
        disliked=None if liked is None else Ragged.of_keys(_without(distinct(keys[~liked]), relevant), queried, base),
    )


def _without(keys: Ids, pool: Ids) -> Ids:
    return keys[~contained(keys, pool)]


class Behaviour:
    """Everything users did, to recommend from now on.

    Args:
        corpus: the corpus.
        history_domains: indices of the domains histories are made of.
        history_length: most events of a history, the latest.
    """

    def __init__(self, corpus: Corpus, history_domains: Sequence[int], history_length: int) -> None:
        self._users = corpus.interactions["user"].to_numpy()
        self._items = corpus.interactions["item"].to_numpy()
        self._base, self._length = corpus.n_items, history_length
        self._inside = np.isin(row_domains(corpus), history_domains)
        self._keys: Ids = distinct(self._users * self._base + self._items)
        self._distinct = self._keys % self._base
        self._domains = corpus.domains

    def history(self, users: Tensor, rows: Ids | None = None) -> Tensor:
        """Latest events (q, l) of ``users`` (q,), oldest first.

        Args:
            users: global user ids.
            rows: ascending row numbers to consider; None for all.
        """
        inside = np.flatnonzero(self._inside) if rows is None else rows[self._inside[rows]]
        owners, wanted = self._users[inside], users.numpy()
        starts = np.searchsorted(owners, wanted).astype(np.int64)
        stops = np.searchsorted(owners, wanted, side="right").astype(np.int64)
        return Ragged.between(self._items[inside], np.maximum(starts, stops - self._length), stops).padded()

    def items(self, users: Tensor, domain: int) -> Tensor:
        """Items (q, s) of a domain that ``users`` (q,) have any row with."""
        return Ragged.between(self._distinct, *self._bounds(users, domain)).padded()

    def count(self, users: Tensor, domain: int) -> Tensor:
        """How many items of a domain ``users`` (q,) have any row with, (q,)."""
        starts, stops = self._bounds(users, domain)
        return torch.from_numpy(stops - starts)

    def _bounds(self, users: Tensor, domain: int) -> tuple[Ids, Ids]:
        """Where the distinct items of ``users`` (q,) in a domain begin and end, (q,) each."""
        d, wanted = self._domains[domain], users.numpy() * self._base
        starts = np.searchsorted(self._keys, wanted + d.start).astype(np.int64)
        return starts, np.searchsorted(self._keys, wanted + d.stop).astype(np.int64)
