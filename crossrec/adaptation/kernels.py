"""Gaussian mixtures of squared distances, and the distance of mean embeddings that a kernel gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from crossrec.errors import CrossrecError


def gaussian_mixture(
    squares: Tensor, sigma_squared: Tensor, bandwidths: tuple[float, ...], reduce: Literal["mean", "sum"]
) -> Tensor:
    """Mean or sum over c in ``bandwidths`` of exp(-squares / (2 c sigma^2)), with the shape of ``squares``.

    Differentiable once, by ``squares`` alone.
    """
    total: Tensor = _Mixture.apply(squares, -0.5 / sigma_squared, bandwidths)  # type: ignore[no-untyped-call]
    return total / len(bandwidths) if reduce == "mean" else total


class _Mixture(torch.autograd.Function):
    """Sum over c of exp(rate * squares / c), with its derivative made in the same pass: it is the cost of a step."""

    @staticmethod
    def forward(ctx: Any, squares: Tensor, rate: Tensor, bandwidths: tuple[float, ...]) -> Tensor:
        total, slope = torch.zeros_like(squares), torch.zeros_like(squares)
        kernel, wider = squares, 0.0
        for c in sorted(bandwidths, reverse=True):  # exp(2 x) is the square of exp(x)
            kernel = kernel.square_() if wider == 2.0 * c else torch.exp(squares * (rate / c))
            total.add_(kernel)
            slope.add_(kernel, alpha=1.0 / c)
            wider = c
        ctx.save_for_backward(slope.mul_(rate))
        return total

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return gradients[0] * slope, None, None


def block_means(kernel: Tensor, n: int, *, unbiased: bool) -> Tensor:
    """Squared distance of two samples' mean embeddings, from the kernel of their pooled rows.

    Args:
        kernel: (n + m, n + m), the first sample's rows first.
        n: rows of the first; 2 or more of each where ``unbiased``.
        unbiased: leave out pairs of a row with itself: MMD_u^2 of Gretton et al., "A kernel two-sample test", JMLR 13
            (2012), else MMD_b^2, their eq. (5) squared.
    """
    m = len(kernel) - n
    xx, yy = kernel[:n, :n], kernel[n:, n:]
    cross = 2.0 * kernel[:n, n:].mean()
    if not unbiased:
        return xx.mean() + yy.mean() - cross
    within_x = (xx.sum() - xx.diagonal().sum()) / (n * (n - 1))
    within_y = (yy.sum() - yy.diagonal().sum()) / (m * (m - 1))
    return within_x + within_y - cross


def check_bandwidths(name: str, bandwidths: Sequence[float]) -> None:
    """Raise CrossrecError unless the multiples of term ``name`` are one or more positive numbers."""
    if not bandwidths or not all(0 < b < math.inf for b in bandwidths):
        raise CrossrecError(f"adaptation.{name}.bandwidths={list(bandwidths)} must be one or more positive numbers")


def one_of(name: str, option: str, value: str, values: tuple[str, ...]) -> None:
    """Raise CrossrecError unless ``value`` is one of ``values``; ``or ...`` among them only reads well."""
    if value not in values or value.startswith("or "):
        raise CrossrecError(f"adaptation.{name}.{option}={value!r} must be {', '.join(values)}")
