"""Windows of users' training sequences in which every event after the first is a target exactly once."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from crossrec.data.batches import PAD
from crossrec.data.ragged import Ids, group_positions, window


class Windows:
    """Cut every user's events into windows of at most ``length`` inputs.

    Window k of a user covers events kL to (k+1)L: the event at a boundary is the last target of one window and the
    first input of the next. A user with one event has no window.

    Args:
        users: (m,) user of each event, sorted; a user's events are in their order.
        items: (m,) global item ids.
        domains: (m,) domain index.
        length: L, the most inputs of a window.

    Attributes:
        users: (w,) user of each window.
        domains: (w,) domain index of its last target.
        lengths: (w,) its number of inputs.
    """

    def __init__(self, users: Ids, items: Ids, domains: Ids, length: int) -> None:
        position, size = group_positions(users)
        starts = np.flatnonzero((position % length == 0) & (position < size - 1))
        lengths = np.minimum(length, (size - 1 - position)[starts])
        self.users: Ids = users[starts]
        self.domains: Ids = domains[starts + lengths]
        self.lengths: Ids = lengths
        self._owners, self._starts = torch.from_numpy(self.users), torch.from_numpy(starts)
        self._lengths = torch.from_numpy(lengths)
        self._items, self._domains = torch.from_numpy(items), torch.from_numpy(domains)

    def __len__(self) -> int:
        return len(self.users)

    def gather(self, index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Windows ``index`` (b,), padded to the longest of them.

        Returns:
            Users (b,); history, targets and the targets' domains, each (b, l) and filled with PAD.
        """
        at, mask = window(self._starts[index], self._lengths[index])
        history = self._items[at].masked_fill(~mask, PAD)
        after = (at + 1).masked_fill(~mask, 0)
        targets, domains = self._items[after].masked_fill(~mask, PAD), self._domains[after].masked_fill(~mask, PAD)
        return self._owners[index], history, targets, domains
