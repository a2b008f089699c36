"""A user as the mean of what they did."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crossrec.data.schema import Corpus
from crossrec.encoders.base import History, UserEncoder, checked_history
from crossrec.errors import CrossrecError


class HistoryMeanEncoder(UserEncoder):
    """The running mean of the events' item vectors.

    u_t = sum over s <= t of w(d_s) v_s / sum over s <= t of w(d_s), with w = 1, or with ``domain_weights`` w(d) =
    exp(a_d) for one trainable a_d per domain, 0 at first: how much an event of domain d says about the user.

    Source: Covington et al., "Deep neural networks for YouTube recommendations", RecSys 2016, section 3.2 (averaged
    watches). Deviation: no layers on top, so users and items share one space.

    Args:
        corpus: gives the number of domains for ``domain_weights``.
        dim: f, width of the item vectors and of the states.
        domain_weights: learn a weight for each domain; of mixed histories.
        history: ``mixed`` or ``own``, see :class:`UserEncoder`.

    Raises:
        CrossrecError: an option has none of its values, or ``domain_weights`` has no other domain to weigh.

    Shape:
        vectors (b, l, dim) -> states (b, l, dim).
    """

    uses_history = True
    domain_rows = ("log_weight",)

    def __init__(
        self, corpus: Corpus, dim: int = 64, *, domain_weights: bool = False, history: History = "mixed"
    ) -> None:
        super().__init__()
        self.history = checked_history(history)
        if domain_weights and history == "own":
            raise CrossrecError(
                "user_encoder.domain_weights=true weighs the domains of a mixed history, but history=own has one only"
            )
        self.dim = dim
        self.log_weight = nn.Parameter(torch.zeros(len(corpus.domains))) if domain_weights else None

    def states(self, vectors: Tensor, domains: Tensor, mask: Tensor) -> Tensor:
        """Mean of the events so far; arguments as in :meth:`UserEncoder.states`. Zero before the first event."""
        weight = mask.to(vectors.dtype)
        if self.log_weight is not None:
            weight = weight * self.log_weight.exp().to(vectors.dtype)[domains]
        mass = weight.cumsum(1)
        total = (vectors * weight.unsqueeze(-1)).cumsum(1)
        return total / mass.where(mass > 0, 1.0).unsqueeze(-1)
