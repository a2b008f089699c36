"""From a text's features to the space of users and items: the trainable maps after a model."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossrec.errors import CrossrecError

Adapter = Literal["linear", "mlp", "moe", "none"]
EXPERTS = 8
"""Experts of ``moe`` where their number is not given, as in UniSRec."""


class ParametricWhitening(nn.Module):
    """A learned affine map y = (x - b) W: what whitening does, with b and W trained instead of fitted.

    b is zero at first and W normal with deviation w^-1/2, which keeps the features' root mean square.

    Source: Hou et al., "Towards universal sequence representation learning for recommender systems" (UniSRec), KDD
    2022, section 2.1.2. Deviation: that deviation of W instead of 0.02.

    Args:
        width: w, of the features.
        out_width: of the output.

    Raises:
        CrossrecError: ``out_width`` is not from 1 to w.

    Shape:
        (..., w) -> (..., out_width).
    """

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        if not 1 <= out_width <= width:
            raise CrossrecError(f"whitening_dim={out_width} must be from 1 to the features' width, {width}")
        self.out_width = out_width
        self.bias = nn.Parameter(torch.zeros(width))
        self.weight = nn.Parameter(torch.randn(width, out_width) * width**-0.5)

    def forward(self, features: Tensor) -> Tensor:
        """Map ``features`` (..., w) to (..., out_width)."""
        return (features - self.bias) @ self.weight


class MixtureAdapter(nn.Module):
    """Several maps of the kind of :class:`ParametricWhitening`, mixed by a gate.

    y = sum over k of g_k (x - b_k) W_k, with g = softmax(x G). With ``noise`` the gate's logits in training are
    x G + e softplus(x N), e standard normal, drawn as dropout's numbers are: from the state that a strategy derives for
    each step. G, N and b_k are zero at first, W_k normal so that vectors have length about 1 where the features have a
    root mean square of 1.

    Source: Hou et al., "Towards universal sequence representation learning for recommender systems" (UniSRec), KDD
    2022, section 2.1.3. Deviation: W_k are of that size at first instead of deviation 0.02.

    Args:
        width: w, of the features.
        dim: f, of the output.
        experts: how many maps.
        noise: see above.

    Raises:
        CrossrecError: fewer than two experts.

    Shape:
        (..., w) -> (..., f).
    """

    def __init__(self, width: int, dim: int, experts: int = EXPERTS, noise: bool = False) -> None:
        super().__init__()
        if experts < 2:
            raise CrossrecError(f"item_encoder.experts={experts} must be 2 or more: adapter=linear is one map")
        self.bias = nn.Parameter(torch.zeros(experts, width))
        self.weight = nn.Parameter(torch.randn(experts, width, dim) * (experts / (width * dim)) ** 0.5)
        self.gate = nn.Parameter(torch.zeros(width, experts))
        self.noise = nn.Parameter(torch.zeros(width, experts)) if noise else None

    def forward(self, features: Tensor) -> Tensor:
        """Map ``features`` (..., w) to (..., f)."""
        logits = features @ self.gate
        if self.noise is not None and self.training:
            logits = logits + torch.randn_like(logits) * F.softplus(features @ self.noise)
        # (x - b) W = x W - b W: no (n, experts, w) tensor
        offset = torch.einsum("kw,kwf->kf", self.bias, self.weight)
        mapped = torch.einsum("...w,kwf->...kf", features, self.weight) - offset
        return (mapped * logits.softmax(-1).unsqueeze(-1)).sum(-2)


def make_adapter(
    kind: Adapter, width: int, dim: int, dropout: float = 0.0, experts: int | None = None, gate_noise: bool = False
) -> list[nn.Module]:
    """Layers from features of root mean square 1 to vectors of length about 1, dropout first.

    Args:
        kind: ``linear`` (w -> f), ``mlp`` (w -> w -> f with GELU), ``moe``, see :class:`MixtureAdapter`, or ``none``:
            the features themselves, of width w.
        width: w, of the features.
        dim: f, of the vectors.
        dropout: rate on the features.
        experts: of ``moe``, 8 when None; no other kind has any.
        gate_noise: of ``moe``.

    Raises:
        CrossrecError: an unknown kind, or an option that the kind has no use for.
    """
    if kind not in get_args(Adapter):
        raise CrossrecError(f"item_encoder.adapter={kind!r} must be linear, mlp, moe or none")
    if kind == "moe":
        return [nn.Dropout(dropout), MixtureAdapter(width, dim, EXPERTS if experts is None else experts, gate_noise)]
    if experts is not None or gate_noise:
        name, value = ("experts", experts) if experts is not None else ("gate_noise", "true")
        raise CrossrecError(f"item_encoder.{name}={value} goes with item_encoder.adapter=moe, not {kind}: leave it out")
    if kind == "none":
        return [nn.Dropout(dropout)]
    last = nn.Linear(width, dim)
    nn.init.normal_(last.weight, std=(width * dim) ** -0.5)
    nn.init.zeros_(last.bias)
    if kind == "linear":
        return [nn.Dropout(dropout), last]
    return [nn.Dropout(dropout), nn.Linear(width, width), nn.GELU(), last]
