"""Item vectors learnt for each id."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossrec.data.schema import Corpus
from crossrec.encoders.base import ItemEncoder, Unseen
from crossrec.errors import CrossrecError

Init = Literal["normal", "xavier"]


def init_table(weight: Tensor, init: Init, std: float) -> None:
    """Fill an embedding table in place.

    Args:
        weight: (n, dim).
        init: ``normal`` with ``std``, or ``xavier``: normal with the deviation sqrt(2 / (n + dim)) of Glorot and
            Bengio, AISTATS 2010.
        std: deviation of ``normal``.

    Raises:
        CrossrecError: another ``init``, or a negative ``std``.
    """
    if std < 0:
        raise CrossrecError(f"std={std} of an id encoder must not be negative")
    if init == "normal":
        nn.init.normal_(weight, std=std)
    elif init == "xavier":
        nn.init.xavier_normal_(weight)
    else:
        raise CrossrecError(f"init={init!r} of an id encoder must be normal or xavier")


class IdEncoder(ItemEncoder):
    """One trainable vector for each item, or for each entity.

    An item without a training row is trained as a sampled negative only. With ``untrained=learned`` it has a vector
    like any other, as in published baselines, and learns to be ranked low. With ``untrained=zero`` it is the zero
    vector, at training and after: right beside another encoder that knows the item (its id says nothing), wrong alone
    with a loss that makes most scores negative: under BCE the score 0 of such items was above nearly all others.

    Args:
        corpus: gives the items and their entities.
        dim: f, width of the vectors.
        train_items: (n_items,) bool, True for items with a training row; None when all have one.
        share_entities: items of two domains that are one entity share one vector (collective matrix factorisation). An
            entity is trained if any of its items is.
        untrained: see above.
        init: see :func:`init_table`.
        std: deviation of ``init=normal``.

    Raises:
        CrossrecError: an option has none of its values, or ``train_items`` is not one flag per item.

    Shape:
        (...) item ids -> (..., dim).
    """

    id_rows = ("weight",)
    rows: Tensor

    def __init__(
        self,
        corpus: Corpus,
        dim: int = 64,
        train_items: Tensor | None = None,
        *,
        share_entities: bool = False,
        untrained: Literal["learned", "zero"] = "learned",
        init: Init = "normal",
        std: float = 0.02,
    ) -> None:
        super().__init__()
        if untrained not in ("learned", "zero"):
            raise CrossrecError(f"item_encoder.untrained={untrained!r} must be learned or zero")
        trained = train_flags(corpus, train_items)
        if untrained == "learned":
            trained[:] = True
        keys = corpus.items["entity"].to_numpy() if share_entities else np.arange(corpus.n_items)
        known, rows = np.unique(keys, return_inverse=True)
        used = np.zeros(len(known), dtype=np.bool_)
        used[rows[trained]] = True
        number = np.where(used, np.cumsum(used), 0)  # row 0 is the zero vector
        self.dim = dim
        self.untrained = untrained
        self.shares_entities = share_entities
        self.register_buffer("rows", torch.from_numpy(number[rows].astype(np.int64)), persistent=False)
        self.weight = nn.Parameter(torch.empty(int(used.sum()) + 1, dim))
        init_table(self.weight.data[1:], init, std)
        self.weight.data[0] = 0.0

    def forward(self, items: Tensor) -> Tensor:
        """Look ``items`` (...) up: (..., dim)."""
        return F.embedding(self.rows[items], self.weight, padding_idx=0)

    def unseen(self, items: Tensor) -> Unseen:
        """Return ``nothing`` with ``untrained=zero``."""
        return "nothing" if self.untrained == "zero" else "chance"


def train_flags(corpus: Corpus, train_items: Tensor | None) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return ``train_items`` as a NumPy mask (n_items,), all True for None.

    Raises:
        CrossrecError: not one flag per item.
    """
    if train_items is None:
        return np.ones(corpus.n_items, dtype=np.bool_)
    if train_items.shape != (corpus.n_items,):
        raise CrossrecError(
            f"train_items has shape {tuple(train_items.shape)}, but the corpus has {corpus.n_items} items"
        )
    return np.array(train_items.detach().cpu().numpy(), dtype=np.bool_)  # a copy
