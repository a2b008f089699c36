"""Rows of unequal length in one flat array."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crossrec.data.batches import PAD

Ids = npt.NDArray[np.int64]


def group_positions(keys: Ids) -> tuple[Ids, Ids]:
    """Position of every row inside its group, in row order, and the size of its group.

    Args:
        keys: (n,) group of each row, in any order.

    Returns:
        Two arrays (n,): position from 0, size.
    """
    if not len(keys):
        return keys.copy(), keys.copy()
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    counts = np.diff(np.r_[first, len(keys)])
    position, size = np.empty_like(keys), np.empty_like(keys)
    position[order] = np.arange(len(keys)) - np.repeat(first, counts)
    size[order] = np.repeat(counts, counts)
    return position, size


def distinct(keys: Ids) -> Ids:
    """Sorted distinct ``keys`` by one sort: several times faster than the hash table of ``numpy.unique``."""
    ordered = np.sort(keys)
    return ordered[np.r_[True, ordered[1:] != ordered[:-1]]] if len(ordered) else ordered


def contained(keys: Ids, pool: Ids) -> npt.NDArray[np.bool_]:
    """Which of ``keys`` (n,) are in ``pool`` (m,), sorted and distinct."""
    if not len(pool):
        return np.zeros(len(keys), dtype=np.bool_)
    found: npt.NDArray[np.bool_] = pool[np.minimum(np.searchsorted(pool, keys), len(pool) - 1)] == keys
    return found


def window(starts: Tensor, lengths: Tensor, width: int | None = None) -> tuple[Tensor, Tensor]:
    """Index matrix of ragged rows.

    Args:
        starts: (b,) first position of each row in the flat array.
        lengths: (b,) its length.
        width: columns of the result; the longest length by default.

    Returns:
        Positions (b, width), 0 where there is nothing, and the mask (b, width) of those that exist.
    """
    if width is None:
        width = int(lengths.max()) if len(lengths) else 0
    steps = torch.arange(width)
    mask = steps < lengths.unsqueeze(1)
    return (starts.unsqueeze(1) + steps).masked_fill(~mask, 0), mask


def pad(values: Tensor, starts: Tensor, lengths: Tensor) -> Tensor:
    """Gather ragged rows of ``values`` to (b, longest), left-aligned and filled with PAD."""
    index, mask = window(starts, lengths)
    if not index.shape[1]:
        return index
    return values[index].masked_fill(~mask, PAD)


@dataclass(frozen=True)
class Ragged:
    """A list of ids for each of n rows.

    Args:
        values: (m,) flat ids.
        starts: (n,) first position of each row's list.
        lengths: (n,) its length.
    """

    values: Tensor
    starts: Tensor
    lengths: Tensor

    @classmethod
    def between(cls, values: Ids, starts: Ids, stops: Ids) -> Ragged:
        """Build from the positions ``starts..stops`` (n,) of each list in ``values``."""
        return cls(torch.from_numpy(values), torch.from_numpy(starts), torch.from_numpy(stops - starts))

    @classmethod
    def of_keys(cls, keys: Ids, owners: Ids, base: int) -> Ragged:
        """Build from sorted ``owner * base + id`` keys, one list for each of ``owners`` (n,)."""
        starts, stops = np.searchsorted(keys, owners * base), np.searchsorted(keys, (owners + 1) * base)
        return cls.between(keys % base, starts.astype(np.int64), stops.astype(np.int64))

    def take(self, index: Tensor) -> Ragged:
        """Lists of the rows ``index``."""
        return Ragged(self.values, self.starts[index], self.lengths[index])

    def padded(self) -> Tensor:
        """All lists as one matrix (n, longest), left-aligned and filled with PAD."""
        return pad(self.values, self.starts, self.lengths)
