"""Sampled candidates of a query: items of its domain that its user never interacted with, in any stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from crossrec.data.batches import PAD
from crossrec.data.negatives import Negatives, PopularityNegatives, UniformNegatives
from crossrec.data.queries import Behaviour
from crossrec.data.ragged import Ids
from crossrec.data.schema import Corpus
from crossrec.errors import CrossrecError

CELLS = 2**23
"""Most random numbers drawn at once."""


class Candidates:
    """Draw distinct candidates.

    Items are drawn one after another in proportion to their weights; those already drawn are passed over. The first
    ``2n`` draws of all users are made at once. Who has fewer than ``n`` distinct items by then gets the rest at once
    too: every remaining free item draws an exponential of rate its weight and the first ones win, which is the same
    distribution (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", Information Processing Letters
    2006).

    Args:
        corpus: the corpus; every row of it excludes its item for its user.
        sampling: ``uniform``, or ``popularity``: in proportion to the training count to the power 3/4.
        counts: (n_items,) training rows of each item.

    Raises:
        CrossrecError: an unknown ``sampling``.
    """

    def __init__(self, corpus: Corpus, sampling: Literal["uniform", "popularity"], counts: Ids) -> None:
        users = corpus.interactions["user"].to_numpy()
        items = corpus.interactions["item"].to_numpy()
        self._free: Negatives
        if sampling == "uniform":
            self._free = UniformNegatives(corpus, users, items, warn=False)
        elif sampling == "popularity":
            self._free = PopularityNegatives(corpus, users, items, counts=counts, warn=False)
        else:
            raise CrossrecError(f"evaluation.candidate_sampling is {sampling!r}: choose uniform or popularity")
        self._corpus = corpus
        self._owned = Behaviour(corpus, range(len(corpus.domains)), 1)

    def available(self, users: Tensor, domain: int) -> Tensor:
        """How many candidates of ``domain`` can be drawn for ``users`` (q,), (q,)."""
        return self._corpus.domains[domain].n_items - self._owned.count(users, domain)

    def draw(self, users: Tensor, domain: int, n: int, generator: torch.Generator) -> Tensor:
        """Draw ``n`` candidates of ``domain`` for ``users`` (q,).

        Returns:
            (q, n) distinct global item ids in each row; PAD where the user has fewer than ``n`` free items.
        """
        result = torch.full((len(users), n), PAD)
        for part in _chunks(len(users), 2 * n):
            result[part] = self._first(users[part], domain, n, generator)
        short = torch.nonzero((result == PAD).any(dim=1)).squeeze(1)
        for part in _chunks(len(short), self._corpus.domains[domain].n_items):
            result[short[part]] = self._race(users[short[part]], domain, result[short[part]], generator)
        return result

    def _first(self, users: Tensor, domain: int, n: int, generator: torch.Generator) -> Tensor:
        """First ``n`` distinct items (q, n) of ``2n`` draws, then PAD."""
        domains = torch.full_like(users, domain)
        draws = self._free.sample(users, domains, 2 * n, generator)
        ordered, place = draws.sort(dim=1, stable=True)
        again = torch.zeros_like(ordered, dtype=torch.bool)
        again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
        fresh = ~torch.empty_like(again).scatter_(1, place, again)
        fresh &= self._free.free(users, domains).unsqueeze(1) > 0
        column = fresh.cumsum(dim=1) - 1
        rows, columns = torch.nonzero(fresh & (column < n), as_tuple=True)
        chosen = torch.full((len(users), n), PAD)
        chosen[rows, column[rows, columns]] = draws[rows, columns]
        return chosen

    def _race(self, users: Tensor, domain: int, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Fill the PAD of ``chosen`` (q, n) with further free items while there are any."""
        d, n = self._corpus.domains[domain], chosen.shape[1]
        clocks = torch.empty(len(users), d.n_items, dtype=torch.float64).exponential_(generator=generator)
        clocks /= self._free.weights_of(domain)
        for taken in (self._owned.items(users, domain), chosen):
            rows, columns = torch.nonzero(taken != PAD, as_tuple=True)
            clocks[rows, taken[rows, columns] - d.start] = torch.inf
        first, items = clocks.topk(min(n, d.n_items), dim=1, largest=False)
        more = torch.full_like(chosen, PAD)
        more[:, : items.shape[1]] = (items + d.start).masked_fill(torch.isinf(first), PAD)
        have = (chosen != PAD).sum(dim=1, keepdim=True)
        column = torch.arange(n) - have
        return torch.where(column < 0, chosen, more.gather(1, column.clamp_min(0)))


def _chunks(n_rows: int, width: int) -> Iterator[slice]:
    step = max(CELLS // max(width, 1), 1)
    return (slice(start, start + step) for start in range(0, n_rows, step))


def sample_queries(n_queries: int, keep: int | None, generator: np.random.Generator) -> Tensor:
    """Indices of a random sample of ``keep`` queries, ascending; all of them where there are no more."""
    if keep is None or keep >= n_queries:
        return torch.arange(n_queries)
    return torch.from_numpy(np.sort(generator.permutation(n_queries)[:keep]))
