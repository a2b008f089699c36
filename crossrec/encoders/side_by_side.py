"""Vectors of several encoders of the same thing, one beside the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from crossrec.data.schema import Corpus
from crossrec.encoders.base import ItemEncoder, UserEncoder
from crossrec.errors import CrossrecError


class ItemsSideBySide(ItemEncoder):
    """Concatenate the vectors of several item encoders: [v_1; ..; v_k], as wide as all of them together.

    Args:
        corpus: passed to every encoder.
        dim: f, passed to every encoder; those without an adapter have a width of their own.
        train_items: (n_items,) bool, passed to every encoder.
        encoders: name -> what makes the encoder from ``corpus``, ``dim`` and ``train_items`` (in a config: nodes with
            ``_partial_: true``).

    Shape:
        (...) item ids -> (..., sum of the widths).
    """

    def __init__(
        self,
        corpus: Corpus,
        dim: int = 64,
        train_items: Tensor | None = None,
        *,
        encoders: Mapping[str, Callable[..., ItemEncoder]],
    ) -> None:
        super().__init__()
        made = {name: make(corpus=corpus, dim=dim, train_items=train_items) for name, make in encoders.items()}
        self.encoders = nn.ModuleDict(made)
        self.dim = sum(encoder.dim for encoder in made.values())
        self.shares_entities = all(encoder.shares_entities for encoder in made.values())

    def forward(self, items: Tensor) -> Tensor:
        """Encode ``items`` (...) to (..., dim)."""
        return torch.cat([encoder(items) for encoder in self.encoders.values()], -1)


class UsersSideBySide(UserEncoder):
    """Concatenate the vectors of several user encoders that look ids up: [u_1; ..; u_k].

    Args:
        corpus: passed to every encoder.
        dim: f, passed to every encoder; those without an adapter have a width of their own.
        encoders: name -> what makes the encoder from ``corpus`` and ``dim`` (in a config: nodes with
            ``_partial_: true``).

    Raises:
        CrossrecError: an encoder reads histories.

    Shape:
        (b,) user ids -> (b, sum of the widths).
    """

    uses_history = False

    def __init__(self, corpus: Corpus, dim: int = 64, *, encoders: Mapping[str, Callable[..., UserEncoder]]) -> None:
        super().__init__()
        made = {name: make(corpus=corpus, dim=dim) for name, make in encoders.items()}
        for name, encoder in made.items():
            if encoder.uses_history:
                raise CrossrecError(
                    f"user_encoder.encoders.{name} reads histories, and what stands side by side is looked up by id: "
                    "choose id and text"
                )
        self.encoders = nn.ModuleDict(made)
        self._set_width()

    def prepare(self, trained: npt.NDArray[np.bool_]) -> None:
        """Tell every encoder; see :meth:`UserEncoder.prepare`."""
        for encoder in self.encoders.values():
            cast(UserEncoder, encoder).prepare(trained)
        self._set_width()

    def _set_width(self) -> None:
        self.dim = sum(cast(UserEncoder, encoder).dim for encoder in self.encoders.values())

    def forward(self, users: Tensor) -> Tensor:
        """Encode ``users`` (b,) to (b, dim)."""
        return torch.cat([encoder(users) for encoder in self.encoders.values()], -1)
