"""A network on a user's and an item's vector side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossrec.errors import CrossrecError
from crossrec.ranges import rate

CELLS = 1 << 22
"""Most activations of a hidden layer that are held at once when a catalogue is scored."""


class PairNetwork(nn.Module):
    """Score of a pair: h_0 = [x_u; x_i], h_l = relu(W_l h_{l-1} + b_l) for l = 1 .. L, s = <w, h_L> + b.

    There is dropout on the input of every layer. Without hidden layers, L = 0, the score is a sum of what the user
    gives and what the item gives, s = <w_u, x_u> + <w_i, x_i> + b, so that all users have the same ranking.

    The first layer's share of either side is computed once for each user and each item, whatever is paired.

    Args:
        user_width: of x_u.
        item_width: of x_i.
        hidden: widths of the L hidden layers.
        dropout: rate.

    Raises:
        CrossrecError: a width that is not positive, or a rate outside of [0, 1).
    """

    def __init__(self, user_width: int, item_width: int, hidden: Sequence[int] = (), dropout: float = 0.0) -> None:
        super().__init__()
        if any(not isinstance(width, int) or width < 1 for width in hidden):
            raise CrossrecError(f"strategy.hidden={list(hidden)} must be a list of widths of at least 1")
        rate("strategy.dropout", dropout)
        self.widths = (user_width, item_width)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise([user_width + item_width, *hidden, 1]))
        self.dropout = nn.Dropout(dropout)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        """Scores (m,) of ``users`` (m, user_width) for ``items`` (m, item_width), row by row."""
        of_users, of_items = self._first(users, items)
        return self._rest(of_users + of_items)

    def grid(self, users: Tensor, items: Tensor) -> Tensor:
        """Scores (q, n) of every one of ``users`` (q, user_width) for every one of ``items`` (n, item_width)."""
        of_users, of_items = self._first(users, items)
        if len(self.layers) == 1:
            return of_users + of_items.T
        widest = max(cast(nn.Linear, layer).in_features for layer in list(self.layers)[1:])
        step = max(CELLS // max(len(items) * widest, 1), 1)
        parts = torch.split(of_users, step)
        return torch.cat([self._rest(part.unsqueeze(1) + of_items) for part in parts])

    def _first(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """The first layer's output is the sum of both, (..., width) each; the bias is with the items."""
        layer = cast(nn.Linear, self.layers[0])
        for_users, for_items = torch.tensor_split(layer.weight, [self.widths[0]], dim=1)
        return F.linear(self.dropout(users), for_users), F.linear(self.dropout(items), for_items, layer.bias)

    def _rest(self, first: Tensor) -> Tensor:
        """From the first layer's output (..., width) to scores (...)."""
        hidden = first
        for layer in list(self.layers)[1:]:
            hidden = layer(self.dropout(F.relu(hidden)))
        return hidden.squeeze(-1)
