"""Training-free baseline: recommend what is popular."""

from __future__ import annotations

import torch
from torch import Tensor

from crossrec.data.batches import QueryBatch
from crossrec.strategies.base import Strategy


class Popularity(Strategy):
    """Score every item by its number of training interactions in its own domain, for every user alike."""

    trains = False
    uses_history = False
    counts: Tensor

    def prepare(self, counts: Tensor) -> None:
        """Take the training counts (n_items,)."""
        self.register_buffer("counts", counts.to(torch.float32))

    def score(self, batch: QueryBatch) -> Tensor:
        """Return the domain's counts, (q, n_items), one row repeated."""
        d = self.domains[batch.domain]
        return self.counts[d.start : d.stop].expand(len(batch.users), -1)
