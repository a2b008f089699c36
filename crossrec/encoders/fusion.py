"""Several item encoders as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from torch import Tensor, nn

from crossrec.data.schema import Corpus
from crossrec.encoders.base import ItemEncoder, Unseen
from crossrec.encoders.mixing import Mixing, Mode
from crossrec.errors import CrossrecError


class FusionEncoder(ItemEncoder):
    """Fuse the vectors of several encoders of the same item; see :class:`Mixing`.

    Args:
        corpus: passed to every encoder.
        dim: f, width of every encoder and of the output.
        train_items: (n_items,) bool, passed to every encoder.
        encoders: name -> what makes the encoder from ``corpus``, ``dim`` and ``train_items`` (in a config: nodes with
            ``_partial_: true``).
        mode: ``sum``, ``gate`` or ``concat``.

    Raises:
        CrossrecError: fewer than two encoders, one of another width, or an unknown mode.

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
        mode: Mode = "sum",
    ) -> None:
        super().__init__()
        self.dim = dim
        self.encoders = nn.ModuleDict(
            {name: make(corpus=corpus, dim=dim, train_items=train_items) for name, make in encoders.items()}
        )
        for name, encoder in self.encoders.items():
            if encoder.dim != dim:
                raise CrossrecError(
                    f"item_encoder.encoders.{name} gives vectors of width {encoder.dim}, which cannot be mixed with "
                    f"those of width dim={dim}: give it an adapter, or choose item_encoder=id_and_text"
                )
        self.shares_entities = all(encoder.shares_entities for encoder in self.encoders.values())
        self.mixing = Mixing(len(encoders), dim, mode, "item_encoder")

    def forward(self, items: Tensor) -> Tensor:
        """Encode ``items`` (...) to (..., dim)."""
        fused: Tensor = self.mixing([encoder(items) for encoder in self.encoders.values()])
        return fused

    def unseen(self, items: Tensor) -> Unseen:
        """Return ``chance`` if any encoder has that, then ``content`` if any reads it."""
        found = [cast(ItemEncoder, encoder).unseen(items) for encoder in self.encoders.values()]
        kinds: tuple[Unseen, ...] = ("chance", "content", "nothing")
        return next(kind for kind in kinds if kind in found)
