"""Several readings of a user's behaviour as one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from torch import Tensor, nn

from crossrec.data.schema import Corpus
from crossrec.encoders.base import UserEncoder
from crossrec.encoders.mixing import Mixing, Mode
from crossrec.errors import CrossrecError


class UserFusionEncoder(UserEncoder):
    """Fuse what several encoders read of the same histories; see :class:`Mixing`.

    By default one reads what the user did in all domains and one, with weights of its own, what they did in the domain
    to recommend in: single-domain and cross-domain sequences side by side.

    Source: Cao et al., "Contrastive cross-domain sequential recommendation" (C2DSR), CIKM 2022, whose users are read
    from the single-domain and the cross-domain sequence. Deviations: transformers in place of graph and attention
    layers, one item table, and the two are mixed by ``mode``.

    Args:
        corpus: passed to every encoder.
        dim: f, width of every encoder and of the output.
        encoders: name -> what makes a user encoder of histories from ``corpus`` and ``dim`` (in a config: nodes with
            ``_partial_: true``).
        mode: ``sum``, ``gate`` or ``concat``.

    Raises:
        CrossrecError: fewer than two encoders, one that looks users up by id, or an unknown mode.

    Shape:
        vectors (b, l, dim) -> states (b, l, dim).
    """

    uses_history = True

    def __init__(
        self, corpus: Corpus, dim: int = 64, *, encoders: Mapping[str, Callable[..., UserEncoder]], mode: Mode = "gate"
    ) -> None:
        super().__init__()
        self.dim = dim
        self.encoders = nn.ModuleDict({name: make(corpus=corpus, dim=dim) for name, make in encoders.items()})
        for name, encoder in self.encoders.items():
            if not encoder.uses_history:
                raise CrossrecError(
                    f"user_encoder.encoders.{name} looks users up by id, but a fusion is of encoders of histories"
                )
        self.mixing = Mixing(len(encoders), dim, mode, "user_encoder")

    @property
    def by_domain(self) -> bool:
        """Whether one of the encoders reads a domain at a time."""
        return any(cast(UserEncoder, encoder).by_domain for encoder in self.encoders.values())

    def states_for(self, vectors: Tensor, domains: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
        """Fused states; arguments as in :meth:`UserEncoder.states_for`."""
        fused: Tensor = self.mixing(self.parts_for(vectors, domains, mask, wanted))
        return fused

    def parts_for(self, vectors: Tensor, domains: Tensor, mask: Tensor, wanted: Tensor) -> list[Tensor]:
        """States of each encoder, in their order; arguments as in :meth:`UserEncoder.states_for`."""
        encoders = [cast(UserEncoder, encoder) for encoder in self.encoders.values()]
        return [encoder.states_for(vectors, domains, mask, wanted) for encoder in encoders]
