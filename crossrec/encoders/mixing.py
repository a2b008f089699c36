"""One vector of several of the same thing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from crossrec.errors import CrossrecError

Mode = Literal["sum", "gate", "concat"]


class Mixing(nn.Module):
    """Mix the vectors v_1 .. v_k.

    ``sum``: sum of v_k. ``gate``: sum of g_k v_k with g = softmax(A [v_1; ..; v_k] + b), equal shares at first.
    ``concat``: A [v_1; ..; v_k] + b, the mean of the v_k at first.

    Args:
        k: number of vectors, two or more.
        dim: f, width of each and of the output.
        mode: see above.
        owner: config node that the options are of, for messages.

    Raises:
        CrossrecError: fewer than two vectors, or an unknown mode.

    Shape:
        k of (..., f) -> (..., f).
    """

    def __init__(self, k: int, dim: int, mode: Mode, owner: str) -> None:
        super().__init__()
        if k < 2:
            raise CrossrecError(f"{owner}.encoders names {k} encoders, but a fusion needs two or more")
        if mode not in ("sum", "gate", "concat"):
            raise CrossrecError(f"{owner}.mode={mode!r} must be sum, gate or concat")
        self.mode = mode
        self.map = nn.Linear(k * dim, k if mode == "gate" else dim) if mode != "sum" else None
        if self.map is not None:
            nn.init.zeros_(self.map.bias)
            nn.init.zeros_(self.map.weight)
            if mode == "concat":
                self.map.weight.data.copy_(torch.eye(dim).repeat(1, k) / k)

    def forward(self, vectors: Sequence[Tensor]) -> Tensor:
        """Mix ``vectors``."""
        if self.map is None:
            return torch.stack(list(vectors)).sum(0)
        mixed: Tensor = self.map(torch.cat(list(vectors), -1))
        if self.mode == "concat":
            return mixed
        return (torch.stack(list(vectors), -1) * mixed.softmax(-1).unsqueeze(-2)).sum(-1)
