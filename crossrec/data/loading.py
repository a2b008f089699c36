"""Iterables of whole batches that know where they stand, for one process of many."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch

from crossrec.data.batches import Batch, QueryBatch
from crossrec.data.queries import Queries
from crossrec.data.randomness import torch_generator
from crossrec.data.sampling import Rows, Sampler
from crossrec.data.training import TrainingRows
from crossrec.errors import CrossrecError


class BatchLoader:
    """Training batches of one epoch after another; its state is the epoch and the number of batches handed out.

    Lightning saves and restores it with every checkpoint (it is stateful) and tells it the epoch, so that an epoch
    killed in the middle goes on with its next batch. Batches depend on the seed, the epoch and their number, never on
    the number of processes: process r of w takes rows r, r + w, ... of every batch.

    Args:
        source: the training rows.
        sampler: says which rows make which batch.
        rows: what the sampler knows of them.
        batch_size: rows of a batch over all processes.
        seed: of order and negatives.
        rank: of this process.
        world_size: number of processes.

    Raises:
        CrossrecError: a batch has fewer rows than there are processes.
    """

    def __init__(
        self,
        source: TrainingRows,
        sampler: Sampler,
        rows: Rows,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._source, self._sampler, self._rows = source, sampler, rows
        self._batch_size, self._seed, self._rank, self._world = batch_size, seed, rank, world_size
        self.epoch = self._start = self._position = 0
        self._length = sampler.length(rows, batch_size)
        smallest = sampler.smallest(rows, batch_size)
        if smallest < world_size:
            raise CrossrecError(
                f"batches of {smallest} rows cannot be shared by {world_size} processes: raise batch_size"
            )
        # Lightning announces epochs to `loader.batch_sampler.sampler`; a plain `sampler` attribute would make
        # Trainer(overfit_batches=...) rebuild this loader as a torch DataLoader, which it is not.
        self.batch_sampler = SimpleNamespace(sampler=self)

    def __len__(self) -> int:
        return self._length

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of ``epoch``; the position is kept when that is where the loader already is."""
        if epoch != self.epoch:
            self.epoch, self._start, self._position = epoch, 0, 0

    def __iter__(self) -> Iterator[Batch]:
        """Iterate over the epoch, from the restored position the first time."""
        start, self._start = self._start, 0
        plan = self._sampler.plan(self._rows, self._batch_size, self._seed, self.epoch)
        part = slice(self._rank, None, self._world)
        for number in range(start, len(plan)):
            self._position = number + 1
            generator = torch_generator(self._seed, "negatives", self.epoch, number)
            yield self._source.gather(torch.from_numpy(plan.batch(number)), generator, part)

    def state_dict(self) -> dict[str, Any]:
        """Return epoch and position, plain numbers."""
        return {"epoch": self.epoch, "position": self._position, "length": self._length}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore epoch and position: the next iteration begins after the last batch handed out.

        Raises:
            CrossrecError: the state is of other data or another batch size.
        """
        if state["length"] != self._length:
            raise CrossrecError(
                f"the checkpoint's epochs have {state['length']} batches and this run's {self._length}: resume with "
                "the data, split, sampler and batch_size it was saved with"
            )
        self.epoch, self._start, self._position = state["epoch"], state["position"], state["position"]


class QueryLoader:
    """Queries of one domain and stage; process r of w takes queries r, r + w, ...: each one exactly once.

    Args:
        queries: all of them.
        batch_size: queries of a batch.
        rank: of this process.
        world_size: number of processes.
    """

    def __init__(self, queries: Queries, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self._queries, self._batch_size = queries, batch_size
        self._index = torch.arange(len(queries))[rank::world_size]

    def __len__(self) -> int:
        return -(-len(self._index) // self._batch_size)

    def __iter__(self) -> Iterator[QueryBatch]:
        """Iterate once over this process's queries."""
        for start in range(0, len(self._index), self._batch_size):
            yield self._queries.take(self._index[start : start + self._batch_size]).batch()
