"""Several item encoders as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from crossrec.data.schema import Corpus
from crossrec.encoders.base import ItemEncoder
from crossrec.errors import CrossrecError


class FusionEncoder(ItemEncoder):
    """Fuse the vectors v_1 .. v_k of k encoders of the same item.

    ``sum``: sum of v_k. ``gate``: sum of g_k v_k with g = softmax(A [v_1; ..; v_k] + b), equal shares at first.
    ``concat``: A [v_1; ..; v_k] + b, the mean of the v_k at first.

    Args:
        corpus: passed to every encoder.
        dim: f, width of every encoder and of the output.
        train_items: (n_items,) bool, passed to every encoder.
        encoders: name -> what makes the encoder from ``corpus``, ``dim`` and ``train_items`` (in a config: nodes with
            ``_partial_: true``).
        mode: see above.

    Raises:
        CrossrecError: fewer than two encoders, or an unknown mode.

    Shape:
        (...) item ids -> (..., dim).
    """

    def __init__(
        self,
        corpus: Corpus,
        dim: int = 64,
        train_items: Tensor | None = None,
        *,
        encoders: Mapping[str, Callable[..., ItemEncoder]],
        mode: Literal["sum", "gate", "concat"] = "sum",
    ) -> None:
        super().__init__()
        if len(encoders) < 2:
            raise CrossrecError(f"item_encoder.encoders names {len(encoders)} encoders, but a fusion needs two or more")
        if mode not in ("sum", "gate", "concat"):
            raise CrossrecError(f"item_encoder.mode={mode!r} must be sum, gate or concat")
        self.dim = dim
        self.mode = mode
        self.encoders = nn.ModuleDict(
            {name: make(corpus=corpus, dim=dim, train_items=train_items) for name, make in encoders.items()}
        )
        self.shares_entities = all(encoder.shares_entities for encoder in self.encoders.values())
        k = len(encoders)
        self.mix = nn.Linear(k * dim, k if mode == "gate" else dim) if mode != "sum" else None
        if self.mix is not None:
            nn.init.zeros_(self.mix.bias)
            nn.init.zeros_(self.mix.weight)
            if mode == "concat":
                self.mix.weight.data.copy_(torch.eye(dim).repeat(1, k) / k)

    def forward(self, items: Tensor) -> Tensor:
        """Encode ``items`` (...) to (..., dim)."""
        vectors: list[Tensor] = [encoder(items) for encoder in self.encoders.values()]
        if self.mix is None:
            return torch.stack(vectors).sum(0)
        mixed: Tensor = self.mix(torch.cat(vectors, -1))
        if self.mode == "concat":
            return mixed
        return (torch.stack(vectors, -1) * mixed.softmax(-1).unsqueeze(-2)).sum(-1)
