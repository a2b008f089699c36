"""Two readings of a user's history as the shared and the private part of the user."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from crossrec.adaptation.base import Adaptation
from crossrec.encoders.base import UserEncoder
from crossrec.encoders.user_fusion import UserFusionEncoder
from crossrec.errors import CrossrecError

if TYPE_CHECKING:
    from crossrec.strategies.base import Strategy

SHOWN = {"shared", "private", "partner"}


class Readings:
    """Read the fused state, and the states that it is fused from.

    Args:
        encoder: of two encoders; the one that depends on the domain to recommend in reads the private part.
    """

    def __init__(self, encoder: UserFusionEncoder) -> None:
        self._encoder = encoder
        first = cast(UserEncoder, next(iter(encoder.encoders.values())))
        self._names = ("private", "shared") if first.by_domain else ("shared", "private")

    def states_for(self, vectors: Tensor, domains: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
        """Fused state and its two parts side by side, (b, l, 3 f); arguments as in :meth:`UserEncoder.states_for`."""
        parts = self._encoder.parts_for(vectors, domains, mask, wanted)
        fused: Tensor = self._encoder.mixing(parts)
        # all of the fused state's type, which may be half: a wider one would be scored with another rounding
        return torch.cat([fused, *(part.to(fused.dtype) for part in parts)], -1)

    def part(self, states: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Fused states (n, f), and the layers ``shared`` and ``private``, of :meth:`states_for` (n, 3 f).

        Of states (n, f), the zeros of users without any history, the layers are empty.
        """
        f = self._encoder.dim
        layers = dict(zip(self._names, (states[:, f : 2 * f], states[:, 2 * f :])))
        return states[:, :f].contiguous(), layers


def check_readings(model: Strategy, space: str) -> Readings:
    """Return the readings of the strategy's user encoder.

    Raises:
        CrossrecError: the encoder has not one reading of mixed and one of own histories, ``space`` is not users, or a
            term reads a layer that two readings do not have.
    """
    if space != "users":
        raise CrossrecError(
            f"strategy.private=history parts users, who alone have a history, but strategy.space={space}"
        )
    encoder = model.user_encoder
    parts = encoder.encoders.values() if isinstance(encoder, UserFusionEncoder) else ()
    if sorted(cast(UserEncoder, part).by_domain for part in parts) != [False, True]:
        raise CrossrecError(
            "strategy.private=history needs a user encoder of two readings, one with history=mixed and one with "
            "history=own: choose user_encoder=mixed_and_own"
        )
    for term in model.adaptation.values():
        assert isinstance(term, Adaptation)
        if unknown := sorted(set(term.needs) - SHOWN):
            raise CrossrecError(
                f"adaptation.{term.name} reads {unknown[0]!r}, but strategy.private=history has shared and private "
                "parts alone: choose other terms, for instance adaptation=[mmd,difference]"
            )
    return Readings(cast(UserFusionEncoder, encoder))
