"""Sampled candidates of a query: items of its domain that its user never interacted with, in any stage."""

from __future__ import annotations

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
"""Most keys drawn at once when whole catalogues take part."""


class Candidates:
    """Draw distinct candidates.

    Uniform candidates of a user with many free items are drawn with repeated draws replaced until all are distinct.
    Otherwise every free item draws an exponential of rate its weight and the first n win: weighted sampling without
    replacement (Efraimidis and Spirakis, "Weighted random sampling with a reservoir", Information Processing Letters
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
        self._uniform = sampling == "uniform"
        self._corpus = corpus
        self._owned = Behaviour(corpus, range(len(corpus.domains)), 1)

    def draw(self, users: Tensor, domain: int, n: int, generator: torch.Generator) -> Tensor:
        """Draw ``n`` candidates of ``domain`` for ``users`` (q,).

        Returns:
            (q, n) distinct global item ids in each row; PAD where the user has fewer than ``n`` free items.
        """
        result = torch.full((len(users), n), PAD)
        domains = torch.full_like(users, domain)
        many = torch.zeros(len(users), dtype=torch.bool)
        if self._uniform:
            free = self._free.free(users, domains)
            many = free >= 2 * n
            points = _distinct(free[many], n, generator)
            result[many] = self._free.at(users[many], domains[many], points)
        rest = torch.nonzero(~many).squeeze(1)
        step = max(CELLS // max(self._corpus.domains[domain].n_items, 1), 1)
        for start in range(0, len(rest), step):
            part = rest[start : start + step]
            result[part] = self._race(users[part], domain, n, generator)
        return result

    def _race(self, users: Tensor, domain: int, n: int, generator: torch.Generator) -> Tensor:
        d = self._corpus.domains[domain]
        clocks = torch.empty(len(users), d.n_items, dtype=torch.float64).exponential_(generator=generator)
        clocks /= self._free.weights_of(domain)
        owned = self._owned.items(users, domain)
        rows, columns = torch.nonzero(owned != PAD, as_tuple=True)
        clocks[rows, owned[rows, columns] - d.start] = torch.inf
        first, items = clocks.topk(min(n, d.n_items), dim=1, largest=False)
        chosen = torch.full((len(users), n), PAD)
        chosen[:, : items.shape[1]] = (items + d.start).masked_fill(torch.isinf(first), PAD)
        return chosen


def _distinct(limits: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Distinct whole numbers (q, n) below ``limits`` (q,), uniform over the subsets of that size."""
    points = (torch.rand(len(limits), n, generator=generator, dtype=torch.float64) * limits.unsqueeze(1)).long()
    rows = torch.arange(len(limits))
    while len(rows):
        ordered, _ = points[rows].sort(dim=1)
        again = torch.zeros_like(ordered, dtype=torch.bool)
        again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
        repeated = again.any(dim=1)
        rows, ordered, again = rows[repeated], ordered[repeated], again[repeated]
        high = limits[rows].unsqueeze(1).expand_as(again)[again]
        ordered[again] = (torch.rand(len(high), generator=generator, dtype=torch.float64) * high).long()
        points[rows] = ordered
    shuffle = torch.rand(points.shape, generator=generator).argsort(dim=1)
    return points.gather(1, shuffle)


def sample_queries(n_queries: int, keep: int | None, generator: np.random.Generator) -> Tensor:
    """Indices of a random sample of ``keep`` queries, ascending; all of them where there are no more."""
    if keep is None or keep >= n_queries:
        return torch.arange(n_queries)
    return torch.from_numpy(np.sort(generator.permutation(n_queries)[:keep]))
