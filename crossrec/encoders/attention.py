"""A user as an attentive mean of what they did."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from crossrec.data.schema import Corpus
from crossrec.encoders.placed_events import PlacedEventsEncoder, PlacedOptions
from crossrec.errors import CrossrecError
from crossrec.ranges import at_least

if TYPE_CHECKING:
    from typing_extensions import Unpack


class AttentionEncoder(PlacedEventsEncoder):
    """Attention pooling of the events so far: a weighted mean of their item vectors, so it stays in the items' space.

    u_t = sum over s <= t of exp(a_s) v_s / sum over s <= t of exp(a_s) with a_s = q' tanh(W x_s + b), where x_s = v_s +
    p_s + e_d(s) is that of :class:`PlacedEventsEncoder`: place and domain say how much an event counts, and are not in
    the mean. q is small at first, so u_t begins near the plain mean.

    Histories are left-aligned, so what is padding lies after every event that a real state sees. States at padding are
    finite and mean nothing.

    Source: Wu et al., "Neural news recommendation with attentive multi-view learning" (NAML), IJCAI 2019, the attention
    of its user encoder. Deviations: a state after every event, positions and domains.

    Args:
        corpus: gives the number of domains; its events must be ordered for positions.
        dim: f, width of the item vectors and of the states.
        hidden: width of b; None is ``dim``.
        options: of :class:`PlacedEventsEncoder`.

    Raises:
        CrossrecError: an option has none of its values, the corpus has no order of events for positions, or a history
            is longer than ``max_length``.

    Shape:
        vectors (b, l, dim) -> states (b, l, dim).
    """

    def __init__(
        self,
        corpus: Corpus,
        dim: int = 64,
        *,
        hidden: int | None = None,
        **options: Unpack[PlacedOptions],
    ) -> None:
        super().__init__(corpus, dim, **options)
        at_least("user_encoder.hidden", hidden, 1)
        if self.position is not None and not corpus.ordered:
            raise CrossrecError(
                "user_encoder.position_embedding=true reads the places of events in time, but this data set has no "
                "order: set it to false"
            )
        self.key = nn.Linear(dim, hidden or dim)
        self.query = nn.Parameter(torch.empty(hidden or dim))
        self.reset_embeddings()
        nn.init.xavier_uniform_(self.key.weight)
        nn.init.zeros_(self.key.bias)
        nn.init.normal_(self.query, std=0.02)

    def states(self, vectors: Tensor, domains: Tensor, mask: Tensor) -> Tensor:
        """Weighted mean of the events so far; arguments as in :meth:`UserEncoder.states`."""
        logits = self.key(self.placed(vectors, domains)).tanh() @ self.query
        length = vectors.shape[1]
        later = torch.ones(length, length, dtype=torch.bool, device=vectors.device).triu(1)
        weights = logits.unsqueeze(1).masked_fill(later, -torch.inf).softmax(-1)
        states: Tensor = weights.to(vectors.dtype) @ vectors
        return states
