"""The networks that critics are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import nn

from crossrec.errors import CrossrecError

Activation = Literal["relu", "leaky_relu"]


def check_critic(name: str, dim: int, hidden: Sequence[int], activation: str) -> None:
    """Refuse what no critic of the term ``name`` can be built from."""
    if dim < 1:
        raise CrossrecError(f"adaptation.{name}.dim={dim} must be 1 or more")
    if any(width < 1 for width in hidden):
        raise CrossrecError(f"adaptation.{name}.hidden={list(hidden)} must be widths of 1 or more")
    if activation not in ("relu", "leaky_relu"):
        raise CrossrecError(f"adaptation.{name}.activation={activation!r} must be relu or leaky_relu")


def mlp(widths: Sequence[int], activation: Activation, seed: int) -> nn.Sequential:
    """Make a multilayer perceptron, linear at its end, without dropout or normalisation.

    The first values are Xavier-uniform with zero biases, from ``seed``; nothing is drawn from the global generator.

    Args:
        widths: of the input, of every hidden layer, of the output.
        activation: ``relu``, or ``leaky_relu`` of slope 0.2 below 0.
        seed: of the first values.
    """
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layer = nn.Linear(n_in, n_out, device="meta").to_empty(device="cpu")  # empty: draws nothing
        nn.init.xavier_uniform_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ReLU() if activation == "relu" else nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers[:-1])
