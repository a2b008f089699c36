"""Arithmetic that several losses share: safe where rows are equal, far from the origin or without length."""

from __future__ import annotations

import torch
from torch import Tensor

from crossrec.errors import CrossrecError

MEDIAN_ROWS = 1024
"""Rows of a pooled sample that its median distance is taken from; more are thinned evenly."""

SHORTEST = 1e-6
"""Length, in units of the vectors, up to which a row has no direction."""


def centred(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Shift a (n, f) and b (m, f) by the mean of all their rows, without gradient.

    For losses that do not feel a shift of both: rounding does.
    """
    centre = torch.cat([a, b]).detach().mean(0)
    return a - centre, b - centre


def squared_distances(x: Tensor) -> Tensor:
    """Squared distances (n, n) between the rows of ``x`` (n, f), centred; exact zeros on the diagonal."""
    norms = x.square().sum(1)
    squares = (norms.unsqueeze(1) + norms.unsqueeze(0) - 2.0 * (x @ x.T)).clamp_min(0.0)
    return squares.masked_fill(torch.eye(len(x), dtype=torch.bool, device=x.device), 0.0)


def median_square(squares: Tensor) -> Tensor:
    """Median of the off-diagonal entries of ``squares`` (n, n), at least 1% of their mean and positive."""
    step = -(-len(squares) // MEDIAN_ROWS)
    squares = squares[::step, ::step]
    n = len(squares)
    upper = squares[tuple(torch.triu_indices(n, n, 1, device=squares.device))]
    return torch.maximum(upper.median(), 0.01 * upper.mean()).clamp_min(torch.finfo(squares.dtype).tiny ** 0.5)


def unit_rows(x: Tensor) -> Tensor:
    """Rows of ``x`` (n, f) at length 1; those of length ``SHORTEST`` or less become 0, without gradient."""
    squares = x.square().sum(1, keepdim=True)
    long = squares > SHORTEST**2
    return torch.where(long, x * torch.where(long, squares, 1.0).rsqrt(), 0.0)


def entropies(logs: Tensor) -> Tensor:
    """Entropy, in nats, over the last axis of log probabilities."""
    return -(logs.exp() * logs).sum(-1)


def check_width(name: str, dim: int, vectors: Tensor, whose: str = "vectors") -> None:
    """Refuse ``vectors`` (n, f) that are not as wide as the term ``name`` was made for.

    Raises:
        CrossrecError: f is not ``dim``.
    """
    if vectors.shape[1] != dim:
        raise CrossrecError(f"adaptation.{name}.dim={dim} must be {vectors.shape[1]}, the {whose}' width")
