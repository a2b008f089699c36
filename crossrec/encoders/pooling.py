"""From the states of a text's tokens to one vector."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Pooling = Literal["mean", "cls", "last", "weighted"]
POOLINGS: tuple[Pooling, ...] = get_args(Pooling)


def pool(hidden: Tensor, mask: Tensor, pooling: Pooling) -> Tensor:
    """Pool the states h_1 .. h_s of a text's s real tokens, padded on the right.

    ``mean``: sum h_i / s. ``cls``: h_1. ``last``: h_s, the only state of a causal model that has seen the whole text.
    ``weighted``: sum i h_i / sum i, so that later states of a causal model, which have seen more, count more.

    Source of ``weighted``: Muennighoff, "SGPT: GPT sentence embeddings for semantic search", arXiv 2202.08904,
    section 3.1.

    Args:
        hidden: (n, t, w); states of padding are not read, whatever they are.
        mask: (n, t), 1 at real tokens.
        pooling: see above.

    Returns:
        (n, w); a text without tokens has the zero vector.
    """
    real = mask.bool()
    hidden = hidden.masked_fill(~real.unsqueeze(-1), 0.0)
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "last":
        last = (real.sum(1) - 1).clamp_min(0)
        return hidden[torch.arange(len(hidden), device=hidden.device), last]
    weight = real.to(hidden.dtype)
    if pooling == "weighted":
        weight = weight * torch.arange(1, real.shape[1] + 1, device=hidden.device, dtype=hidden.dtype)
    return (weight.unsqueeze(1) @ hidden).squeeze(1) / weight.sum(1, keepdim=True).clamp_min(1.0)
