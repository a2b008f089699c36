"""The small networks that losses learn: critics, maps, conditionals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "tanh": nn.Tanh,
}


def mlp(
    widths: Sequence[int], activation: Literal["relu", "leaky_relu", "tanh"], seed: int, *, bias: bool = True
) -> nn.Sequential:
    """Make a multilayer perceptron, linear at its end, without dropout or normalisation; no widths: the identity.

    The first values are Xavier-uniform with zero biases, from ``seed``; nothing is drawn from the global generator.

    Args:
        widths: of the input, of every hidden layer, of the output.
        activation: ``relu``, ``leaky_relu`` of slope 0.2 below 0, or ``tanh``.
        seed: of the first values.
        bias: layers have one.
    """
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layer = nn.Linear(n_in, n_out, bias=bias, device="meta").to_empty(device="cpu")  # empty: draws nothing
        nn.init.xavier_uniform_(layer.weight, generator=generator)
        if bias:
            nn.init.zeros_(layer.bias)
        layers += [layer, ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])
