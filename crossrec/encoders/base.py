"""What a tower is: ids or behaviour in, vectors of R^dim out."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from crossrec.encoders.own_history import own_states
from crossrec.errors import CrossrecError

History = Literal["mixed", "own"]
Unseen = Literal["content", "nothing", "chance"]


class ItemEncoder(nn.Module):
    """Map global item ids to vectors.

    Attributes:
        dim: width of the output space, shared with the user encoder.
        shares_entities: True where items of two domains that are one entity have one vector.
        id_rows: names of parameters with a row for each id: a run that begins with this one's weights takes them on the
            same corpus alone. Modules inside may have it too.
        domain_rows: names of parameters with a row for each domain: taken by the domains' names.
    """

    dim: int
    shares_entities: bool = False
    id_rows: tuple[str, ...] = ()
    domain_rows: tuple[str, ...] = ()

    def forward(self, items: Tensor) -> Tensor:
        """Encode ``items`` of any shape (...) to (..., dim); ids must be valid (no PAD)."""
        raise NotImplementedError

    def unseen(self, items: Tensor) -> Unseen:
        """What the vectors of ``items`` (n,) are made of as long as none of them has a training row.

        Returns:
            ``content``: what they are; ``nothing``: they are all alike; ``chance``: a random start that never trains.
            An encoder that reads content says so here; by default it is chance.
        """
        return "chance"


class UserEncoder(nn.Module):
    """Map users to vectors of the item space.

    Attributes:
        dim: width of the output space.
        uses_history: True for encoders that read behaviour (``states``), False for those that look a user id up
            (``forward``).
        history: what is read of a user's behaviour: all of it in its order (``mixed``), or what the user did in the
            domain that is to be recommended in (``own``), as if there were no other.
        id_rows: as in :class:`ItemEncoder`, and so is ``domain_rows``.
    """

    dim: int
    uses_history: bool
    history: History = "mixed"
    id_rows: tuple[str, ...] = ()
    domain_rows: tuple[str, ...] = ()

    @property
    def by_domain(self) -> bool:
        """Whether a user's state depends on the domain that is to be recommended in."""
        return self.history == "own"

    def prepare(self, trained: npt.NDArray[np.bool_]) -> None:
        """Be told, once and before anything is encoded, which interactions train; by default nothing comes of it.

        Args:
            trained: (n_interactions,) bool, the training rows; of labelled ones those that are positives.
        """

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

    def states_for(self, vectors: Tensor, domains: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
        """User state after every event, of the events that ``history`` lets it see.

        Args:
            vectors: as in :meth:`states`, and so are ``domains`` and ``mask``.
            domains: (b, l).
            mask: (b, l).
            wanted: (b, l) index of the domain that each state is to recommend in; negative where none is.

        Returns:
            (b, l, dim); with ``history=own`` zero before the first event in the wanted domain.
        """
        if self.history == "own":
            return own_states(self.states, vectors, domains, mask, wanted)
        return self.states(vectors, domains, mask)


def checked_history(history: History) -> History:
    """Return a user encoder's option ``history``.

    Raises:
        CrossrecError: it is neither ``mixed`` nor ``own``.
    """
    if history not in ("mixed", "own"):
        raise CrossrecError(f"user_encoder.history={history!r} must be mixed or own")
    return history


def tables(module: nn.Module, what: Literal["id_rows", "domain_rows"]) -> list[str]:
    """Names of the tensors, and lists of modules, inside ``module`` that have a row of each id, or of each domain."""
    return [
        f"{name}.{table}" if name else table
        for name, inner in module.named_modules()
        for table in getattr(inner, what, ())
    ]
