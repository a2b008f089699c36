"""Negative items, exact: never an item the user trains on, found without rejection."""

from __future__ import annotations

import warnings
from typing import cast

import numpy as np
import torch
from torch import Tensor

from crossrec.data.batches import PAD
from crossrec.data.ragged import Ids, distinct
from crossrec.data.schema import Corpus

MASS = 2**30
"""Weights of a domain are whole numbers that sum to about this: all arithmetic on them is exact."""


class Negatives:
    """Draw items of a domain in proportion to whole-number weights, among those the user has no positive row with.

    The free mass of a domain is the number line of its items' weights without the user's positives. A uniform point of
    that line is shifted by the mass of the positives before it, found by one binary search over all users at once; the
    item at the shifted point is the draw. Every draw is exact, there is nothing to reject.

    A user whose positives are the whole catalogue of a domain has nothing free: they get a draw from the whole domain
    (warned about once).

    Args:
        corpus: gives the domains.
        users: (p,) user of each positive row.
        items: (p,) item of each positive row.
        weights: (n_items,) whole numbers of at least 1.
        warn: tell of users who have everything.
    """

    def __init__(self, corpus: Corpus, users: Ids, items: Ids, weights: Ids, warn: bool = True) -> None:
        self.domains = corpus.domains
        n_domains = len(corpus.domains)
        keys = distinct(users * corpus.n_items + items)
        owners, positives = np.divmod(keys, corpus.n_items)
        bounds = np.r_[0, np.cumsum(weights)]
        starts = np.array([d.start for d in corpus.domains], dtype=np.int64)
        stops = np.array([d.stop for d in corpus.domains], dtype=np.int64)
        domain = corpus.item_domain[positives]
        groups = owners * n_domains + domain
        offsets = np.r_[0, np.cumsum(np.bincount(groups, minlength=corpus.n_users * n_domains))]
        taken = np.r_[0, np.cumsum(weights[positives])]
        before = bounds[positives] - bounds[starts[domain]] - (taken[:-1] - taken[offsets[groups]])
        mass = bounds[stops] - bounds[starts]
        self._span = int(mass.max(initial=0)) + 1
        self._keys = torch.from_numpy(groups * self._span + before)
        self._taken, self._offsets = torch.from_numpy(taken), torch.from_numpy(offsets)
        self._bounds, self._starts, self._mass = (
            torch.from_numpy(bounds),
            torch.from_numpy(starts),
            torch.from_numpy(mass),
        )
        self._weights = torch.from_numpy(weights)
        self._unit = bool((weights == 1).all())
        full = taken[offsets[1:]] - taken[offsets[:-1]] == np.tile(mass, corpus.n_users)
        full &= np.tile(mass, corpus.n_users) > 0
        if warn and full.any():
            user, index = divmod(int(np.flatnonzero(full)[0]), n_domains)
            warnings.warn(
                f"{int(full.sum())} users have every item of a domain (first {corpus.users['name'][user]!r} in "
                f"{corpus.domains[index].name!r}): their negatives are drawn from the whole domain",
                stacklevel=2,
            )

    def free(self, users: Tensor, domains: Tensor) -> Tensor:
        """Mass (b,) that the users' positives leave free in the domains; the number of items under uniform weights."""
        groups = users * len(self.domains) + domains
        return self._mass[domains] - (self._taken[self._offsets[groups + 1]] - self._taken[self._offsets[groups]])

    def weights_of(self, domain: int) -> Tensor:
        """Weights (n,) of the items of a domain."""
        d = self.domains[domain]
        return self._weights[d.start : d.stop]

    def sample(self, users: Tensor, domains: Tensor, n: int, generator: torch.Generator) -> Tensor:
        """Draw ``n`` negatives for every row, independently.

        Args:
            users: (b,) global user ids.
            domains: (b,) domain index.
            n: number of draws a row; 0 gives (b, 0).
            generator: on the CPU.

        Returns:
            (b, n) global item ids.
        """
        free = self.free(users, domains)
        full = free == 0
        limit = torch.where(full, self._mass[domains], free).unsqueeze(1)
        draws = torch.rand(len(users), n, generator=generator, dtype=torch.float64)
        points = torch.minimum((draws * limit).long(), limit - 1)
        return self.at(users, domains, points, ignore=full)

    def at(self, users: Tensor, domains: Tensor, points: Tensor, ignore: Tensor | None = None) -> Tensor:
        """Items (b, n) at ``points`` (b, n) of the users' free mass; rows in ``ignore`` (b,) use the whole domain's."""
        groups = users * len(self.domains) + domains
        first = self._offsets[groups].unsqueeze(1)
        found = torch.searchsorted(self._keys, groups.unsqueeze(1) * self._span + points, right=True)
        shift = self._taken[found] - self._taken[first]
        if ignore is not None:
            shift = shift.masked_fill(ignore.unsqueeze(1), 0)
        start = self._starts[domains].unsqueeze(1)
        if self._unit:
            return start + points + shift
        return torch.searchsorted(self._bounds, self._bounds[start] + points + shift, right=True) - 1

    def shared(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw ``n`` items of every domain, for all users alike: nothing is excluded.

        Without replacement inside a domain that has ``n`` items, with replacement otherwise.

        Returns:
            (n_domains, n) global item ids; PAD for a domain without items.
        """
        rows = [self._of_domain(index, n, generator) for index in range(len(self.domains))]
        return torch.stack(rows) if rows else torch.empty(0, n, dtype=torch.long)

    def _of_domain(self, index: int, n: int, generator: torch.Generator) -> Tensor:
        domain = self.domains[index]
        if not domain.n_items or not n:
            return torch.full((n,), PAD)
        if not self._unit:
            weights = self.weights_of(index).to(torch.float64)
            return domain.start + torch.multinomial(weights, n, domain.n_items < n, generator=generator)
        if domain.n_items < n:
            return domain.start + torch.randint(domain.n_items, (n,), generator=generator)
        if domain.n_items > 16 * n:  # the distinct values of 2n draws are, in random order, a uniform draw of a subset
            distinct = torch.unique(torch.randint(domain.n_items, (2 * n,), generator=generator))
            if len(distinct) >= n:
                return cast(Tensor, domain.start + distinct[torch.randperm(len(distinct), generator=generator)[:n]])
        return domain.start + torch.randperm(domain.n_items, generator=generator)[:n]


class UniformNegatives(Negatives):
    """Every item of the domain that the user has no positive row with is equally likely.

    Args:
        corpus: gives the domains.
        users: (p,) user of each positive row.
        items: (p,) item of each positive row.
        warn: tell of users who have everything.
    """

    def __init__(self, corpus: Corpus, users: Ids, items: Ids, warn: bool = True) -> None:
        super().__init__(corpus, users, items, np.ones(corpus.n_items, dtype=np.int64), warn)


class PopularityNegatives(Negatives):
    """Items in proportion to their number of positive rows to a power, among those the user has no positive row with.

    Source of the power 3/4: Mikolov et al., "Distributed representations of words and phrases and their
    compositionality", NeurIPS 2013, section 2.2. Weights are rounded to multiples of 2^-30 of the domain's mass; an
    item without a positive row keeps one such unit, so that there is always something to draw.

    Args:
        corpus: gives the domains.
        users: (p,) user of each positive row.
        items: (p,) item of each positive row.
        power: exponent of the count.
        counts: (n_items,) popularity to use; by default the number of rows in ``items``.
        warn: tell of users who have everything.
    """

    def __init__(
        self,
        corpus: Corpus,
        users: Ids,
        items: Ids,
        power: float = 0.75,
        counts: Ids | None = None,
        warn: bool = True,
    ) -> None:
        if counts is None:
            counts = np.bincount(items, minlength=corpus.n_items)
        raw = np.where(counts > 0, np.maximum(counts, 1).astype(np.float64) ** power, 0.0)
        totals = np.array([raw[d.start : d.stop].sum() for d in corpus.domains])
        share = raw / np.maximum(np.repeat(totals, [d.n_items for d in corpus.domains]), 1e-300)
        super().__init__(corpus, users, items, np.maximum(np.round(share * MASS), 1).astype(np.int64), warn)
