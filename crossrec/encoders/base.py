"""What a tower is: ids or behaviour in, vectors of R^dim out."""

from __future__ import annotations

from torch import Tensor, nn


class ItemEncoder(nn.Module):
    """Map global item ids to vectors.

    Attributes:
        dim: width of the output space, shared with the user encoder.
        shares_entities: True where items of two domains that are one entity have one vector.
    """

    dim: int
    shares_entities: bool = False

    def forward(self, items: Tensor) -> Tensor:
        """Encode ``items`` of any shape (...) to (..., dim); ids must be valid (no PAD)."""
        raise NotImplementedError


class UserEncoder(nn.Module):
    """Map users to vectors of the item space.

    Attributes:
        dim: width of the output space.
        uses_history: True for encoders that read behaviour (``states``), False for those that look a user id up
            (``forward``).
    """

    dim: int
    uses_history: bool

    def forward(self, users: Tensor) -> Tensor:
        """Look up ``users`` (b,) -> (b, dim). Only where ``uses_history`` is False."""
        raise NotImplementedError

    def states(self, vectors: Tensor, domains: Tensor, mask: Tensor) -> Tensor:
        """User state after every event, causal: state t sees events 0..t only.

        Args:
            vectors: (b, l, dim) item vectors of the events, left-aligned.
            domains: (b, l) domain index of each event (0 where padded).
            mask: (b, l) bool, True at real events. A row may be all padding: its states must be finite.

        Returns:
            (b, l, dim).
        """
        raise NotImplementedError
