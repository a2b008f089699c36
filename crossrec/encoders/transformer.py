"""A user as a causal transformer's state over what they did."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from crossrec.data.schema import Corpus
from crossrec.encoders.placed_events import PlacedEventsEncoder, PlacedOptions
from crossrec.errors import CrossrecError
from crossrec.ranges import at_least, rate

if TYPE_CHECKING:
    from typing_extensions import Unpack


class CausalLayer(nn.Module):
    """One pre-norm transformer layer: x + A(norm x), then x + M(norm x).

    Args:
        dim: width.
        n_heads: attention heads; divides ``dim``.
        feedforward: width of the hidden layer of M.
        dropout: rate after A and inside and after M.
        attention_dropout: rate on the attention weights.

    Shape:
        (b, l, dim) -> (b, l, dim).
    """

    def __init__(self, dim: int, n_heads: int, feedforward: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.norm_attention = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm_mlp = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, feedforward)
        self.down = nn.Linear(feedforward, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer; position t sees positions 0..t."""
        b, length, dim = x.shape
        q, k, v = self.qkv(self.norm_attention(x)).view(b, length, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        rate = self.attention_dropout if self.training else 0.0
        heads = F.scaled_dot_product_attention(q, k, v, dropout_p=rate, is_causal=True)
        x = x + self._drop(self.out(heads.transpose(1, 2).reshape(b, length, dim)))
        hidden = self._drop(F.gelu(self.up(self.norm_mlp(x))))
        return x + self._drop(self.down(hidden))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class CausalTransformerEncoder(PlacedEventsEncoder):
    """Self-attention over the history: state t reads events 0..t.

    h = norm(v_t + p_t + e_d(t)), see :class:`PlacedEventsEncoder`, then ``n_layers`` of :class:`CausalLayer`, then a
    last norm.

    Histories are left-aligned: what is padding lies after every real event, where a causal mask already hides it, so no
    padding mask is built. States at padding are finite and mean nothing.

    Source: Kang and McAuley, "Self-attentive sequential recommendation", ICDM 2018, section III. Deviations: norms
    before the layers and on the input, GELU, ``feedforward`` of 4 dim, vectors of domains, no dropout on attention
    weights by default.

    Args:
        corpus: gives the number of domains; its events must be ordered.
        dim: f, width of the item vectors and of the states.
        n_layers: layers.
        n_heads: attention heads; divides ``dim``.
        dropout: rate on the input and in the layers.
        attention_dropout: rate on the attention weights.
        feedforward: width of the layers' hidden layer; None is 4 * dim.
        options: of :class:`PlacedEventsEncoder`; without p, order shows in what a state sees alone.

    Raises:
        CrossrecError: an option has none of its values, ``dim`` is not a multiple of ``n_heads``, the corpus has no
            order of events, or a history is longer than ``max_length``.

    Shape:
        vectors (b, l, dim) -> states (b, l, dim).
    """

    def __init__(
        self,
        corpus: Corpus,
        dim: int = 64,
        *,
        n_layers: int = 2,
        n_heads: int = 2,
        dropout: float = 0.2,
        attention_dropout: float = 0.0,
        feedforward: int | None = None,
        **options: Unpack[PlacedOptions],
    ) -> None:
        super().__init__(corpus, dim, **options)
        at_least("user_encoder.n_layers", n_layers, 1)
        at_least("user_encoder.feedforward", feedforward, 1)
        rate("user_encoder.dropout", dropout)
        rate("user_encoder.attention_dropout", attention_dropout)
        if n_heads < 1 or dim % n_heads:
            raise CrossrecError(f"user_encoder.n_heads={n_heads} must divide dim={dim}")
        if not corpus.ordered:
            raise CrossrecError(
                "user_encoder=transformer reads events in order, but this data set has none: choose user_encoder=mean"
            )
        self.dropout = dropout
        self.norm_in = nn.LayerNorm(dim)
        self.layers = nn.ModuleList(
            CausalLayer(dim, n_heads, feedforward or 4 * dim, dropout, attention_dropout) for _ in range(n_layers)
        )
        self.norm_out = nn.LayerNorm(dim)
        self._reset()

    def _reset(self) -> None:
        self.reset_embeddings()
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def states(self, vectors: Tensor, domains: Tensor, mask: Tensor) -> Tensor:
        """State after every event; arguments as in :meth:`UserEncoder.states`."""
        x = F.dropout(self.norm_in(self.placed(vectors, domains)), self.dropout, self.training)
        for layer in self.layers:
            x = layer(x)
        states: Tensor = self.norm_out(x)
        return states
