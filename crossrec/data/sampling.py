"""Which training rows make which batch: a function of the seed and the epoch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from crossrec.data.ragged import Ids
from crossrec.data.randomness import numpy_generator
from crossrec.errors import CrossrecError

GROUP = 50
"""Batches whose rows are sorted by length together."""


@dataclass(frozen=True)
class Rows:
    """What a sampler knows of the training rows.

    Args:
        domains: (n,) domain index of each row.
        names: name of each domain index.
        trained: indices of the domains that train.
        lengths: (n,) for rows of unequal length: batches then hold rows of similar length.
    """

    domains: Ids
    names: Sequence[str]
    trained: Sequence[int]
    lengths: Ids | None = None


@dataclass(frozen=True)
class Plan:
    """The batches of an epoch: batch i holds rows ``order[bounds[i]:bounds[i + 1]]``."""

    order: Ids
    bounds: Ids

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def batch(self, index: int) -> Ids:
        """Row numbers of a batch."""
        return self.order[self.bounds[index] : self.bounds[index + 1]]


class Sampler(ABC):
    """Base of the samplers. Batches of an epoch differ in size by at most one row a domain: no small last batch."""

    @abstractmethod
    def sizes(self, rows: Rows, batch_size: int) -> tuple[dict[int, int], int]:
        """Rows an epoch takes from each domain index, and its number of batches."""

    def length(self, rows: Rows, batch_size: int) -> int:
        """Number of batches of an epoch."""
        return self.sizes(rows, batch_size)[1]

    def smallest(self, rows: Rows, batch_size: int) -> int:
        """Lower bound of the number of rows of a batch."""
        sizes, n_batches = self.sizes(rows, batch_size)
        return sum(size // n_batches for size in sizes.values())

    def plan(self, rows: Rows, batch_size: int, seed: int, epoch: int) -> Plan:
        """Return the batches of ``epoch``.

        Every domain is an endless stream of its rows, a new permutation each time round; an epoch takes the next piece.

        Args:
            rows: the training rows.
            batch_size: rows of a batch over all processes.
            seed: of the run.
            epoch: from 0.
        """
        sizes, n_batches = self.sizes(rows, batch_size)
        orders, batches = [], []
        for domain, size in sizes.items():
            order = _stream(np.flatnonzero(rows.domains == domain), seed, domain, epoch * size, size)
            batch = _spread(size, n_batches)
            orders.append(order if rows.lengths is None else _by_length(order, batch, rows.lengths))
            batches.append(batch)
        return _assemble(orders, batches, n_batches, None if rows.lengths is None else (seed, epoch))


class Proportional(Sampler):
    """Every row once an epoch, in one permutation of all domains together."""

    def sizes(self, rows: Rows, batch_size: int) -> tuple[dict[int, int], int]:
        """Rows an epoch takes, of all domains as one, and its number of batches."""
        if not len(rows.domains):
            raise CrossrecError("no training row is left (a sequence needs two events of a user): filter or split less")
        return {0: len(rows.domains)}, -(-len(rows.domains) // batch_size)

    def plan(self, rows: Rows, batch_size: int, seed: int, epoch: int) -> Plan:
        """Return the batches of ``epoch``; see :meth:`Sampler.plan`."""
        n_batches = self.length(rows, batch_size)
        order = numpy_generator(seed, "order", epoch).permutation(len(rows.domains))
        batch = _spread(len(order), n_batches)
        if rows.lengths is None:
            return _assemble([order], [batch], n_batches, None)
        return _assemble([_by_length(order, batch, rows.lengths)], [batch], n_batches, (seed, epoch))


class Cycle(Sampler):
    """An equal share of each batch for every domain.

    With ``epoch=longest`` an epoch is the domain with the most rows once and the others go round again, reshuffled each
    time; with ``epoch=shortest`` it is the domain with the fewest rows once and the others go on in the next epoch
    where they stopped in this one.

    Args:
        epoch: ``longest`` or ``shortest``.

    Raises:
        CrossrecError: another value.
    """

    def __init__(self, epoch: Literal["longest", "shortest"] = "longest") -> None:
        if epoch not in ("longest", "shortest"):
            raise CrossrecError(f"sampler.epoch={epoch!r} must be longest or shortest")
        self.epoch = epoch

    def sizes(self, rows: Rows, batch_size: int) -> tuple[dict[int, int], int]:
        """Rows an epoch takes from each domain index, and its number of batches."""
        counts = _counts(rows)
        size = max(counts.values()) if self.epoch == "longest" else min(counts.values())
        return dict.fromkeys(counts, size), -(-size // max(batch_size // len(counts), 1))


class FixedRatio(Sampler):
    """Given shares of each batch for the domains.

    An epoch has as many rows as there are; a domain goes on in the next epoch where it stopped in this one.

    Args:
        ratios: share of every domain that trains, by name; normalised by their sum.

    Raises:
        CrossrecError: a share is negative, or the names are not those of the training domains.
    """

    def __init__(self, ratios: Mapping[str, float]) -> None:
        if not ratios or min(ratios.values()) < 0 or sum(ratios.values()) <= 0:
            raise CrossrecError(
                f"sampler.ratios is {dict(ratios)}: give a share of at least 0 to every domain, not all 0"
            )
        self.ratios = dict(ratios)

    def sizes(self, rows: Rows, batch_size: int) -> tuple[dict[int, int], int]:
        """Rows an epoch takes from each domain index, and its number of batches."""
        counts = _counts(rows)
        names = [rows.names[d] for d in counts]
        if set(names) != set(self.ratios):
            raise CrossrecError(
                f"sampler.ratios names {', '.join(self.ratios)}: give a share to each of {', '.join(names)}"
            )
        total, mass = sum(counts.values()), sum(self.ratios.values())
        sizes = {d: round(total * self.ratios[rows.names[d]] / mass) for d in counts}
        return {d: size for d, size in sizes.items() if size}, -(-total // batch_size)


def _counts(rows: Rows) -> dict[int, int]:
    found = np.bincount(rows.domains, minlength=len(rows.names))
    for domain in rows.trained:
        if not found[domain]:
            raise CrossrecError(f"domain {rows.names[domain]!r} has no training row: split or filter it otherwise")
    return {domain: int(found[domain]) for domain in rows.trained}


def _stream(members: Ids, seed: int, domain: int, start: int, size: int) -> Ids:
    """Rows ``start..start + size`` of the endless stream of permutations of ``members``."""
    first, last = start // len(members), (start + size - 1) // len(members)
    turns = [numpy_generator(seed, "stream", domain, turn).permutation(members) for turn in range(first, last + 1)]
    offset = start - first * len(members)
    return np.concatenate(turns)[offset : offset + size]


def _spread(size: int, n_batches: int) -> Ids:
    """Batch number (size,) of consecutive rows cut into ``n_batches`` nearly equal pieces."""
    return (np.arange(size, dtype=np.int64) * n_batches) // max(size, 1)


def _by_length(order: Ids, batch: Ids, lengths: Ids) -> Ids:
    """Sort rows by length inside groups of :data:`GROUP` batches."""
    ordered: Ids = order[np.lexsort((lengths[order], batch // GROUP))]
    return ordered


def _assemble(orders: list[Ids], batches: list[Ids], n_batches: int, shuffle: tuple[int, int] | None) -> Plan:
    """Put the domains' pieces of each batch together; shuffle the batches where rows were sorted by length."""
    order, batch = np.concatenate(orders), np.concatenate(batches)
    if shuffle is not None:
        batch = numpy_generator(shuffle[0], "batches", shuffle[1]).permutation(n_batches)[batch]
    bounds = np.r_[0, np.cumsum(np.bincount(batch, minlength=n_batches))].astype(np.int64)
    if len(orders) > 1 or shuffle is not None:
        order = order[np.argsort(batch, kind="stable")]
    return Plan(order, bounds)
