"""Events as a user encoder reads them: what was done, at which place, in which domain."""

from __future__ import annotations

from typing import TypedDict

import torch
from torch import Tensor, nn

from crossrec.data.schema import Corpus
from crossrec.encoders.base import History, UserEncoder, checked_history
from crossrec.errors import CrossrecError
from crossrec.ranges import at_least


class PlacedOptions(TypedDict, total=False):
    """Keyword arguments of every :class:`PlacedEventsEncoder`."""

    max_length: int
    position_embedding: bool
    domain_embedding: bool
    history: History


class PlacedEventsEncoder(UserEncoder):
    """A user encoder whose input is x_t = v_t + p_t + e_d(t).

    v is the event's item vector, p are trainable vectors of places counted from the oldest event, and e trainable
    vectors of domains; a subclass draws their first values by :meth:`reset_embeddings`.

    Args:
        corpus: gives the number of domains.
        dim: f, width of all of them.
        max_length: longest history that has places, in events.
        position_embedding: add p.
        domain_embedding: add e.
        history: ``mixed`` or ``own``, see :class:`UserEncoder`.

    Raises:
        CrossrecError: an option has none of its values.
    """

    uses_history = True
    domain_rows = ("domain.weight",)

    def __init__(
        self,
        corpus: Corpus,
        dim: int,
        *,
        max_length: int = 50,
        position_embedding: bool = True,
        domain_embedding: bool = True,
        history: History = "mixed",
    ) -> None:
        super().__init__()
        self.history = checked_history(history)
        self.dim = dim
        at_least("user_encoder.max_length", max_length, 1)
        self.max_length = max_length
        self.position = nn.Parameter(torch.empty(max_length, dim)) if position_embedding else None
        self.domain = nn.Embedding(len(corpus.domains), dim) if domain_embedding else None

    def reset_embeddings(self) -> None:
        """Draw p and e from a normal distribution of deviation 0.02."""
        for table in (self.position, None if self.domain is None else self.domain.weight):
            if table is not None:
                nn.init.normal_(table, std=0.02)

    def placed(self, vectors: Tensor, domains: Tensor) -> Tensor:
        """Return x of events.

        Args:
            vectors: (b, l, dim) item vectors, left-aligned.
            domains: (b, l) domain index of each event.

        Raises:
            CrossrecError: a history is longer than ``max_length``, and places are read.
        """
        length = vectors.shape[1]
        if self.position is not None:
            if length > self.max_length:
                raise CrossrecError(
                    f"a history of {length} events is longer than user_encoder.max_length={self.max_length}: "
                    "raise it, or lower history_length"
                )
            vectors = vectors + self.position[:length]
        return vectors if self.domain is None else vectors + self.domain(domains)
