"""Central moment discrepancy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from crossrec.adaptation.base import PairwiseAdaptation
from crossrec.adaptation.numerics import centred
from crossrec.adaptation.options import PairwiseOptions
from crossrec.errors import CrossrecError

if TYPE_CHECKING:
    from typing_extensions import Unpack

Squash = Literal["sigmoid", "tanh", "none"]
RANGES: dict[str, tuple[float, float]] = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}


class CMD(PairwiseAdaptation):
    """Sum of the distances between the two domains' means and central moments, coordinate by coordinate.

    With s the ``squash``, applied to each coordinate, and [l, u] the interval of its values:

        |E s(a) - E s(b)|_2 / (u - l) + sum over k = 2..K of |c_k(s(a)) - c_k(s(b))|_2 / (u - l)^k

    where c_k(x) (f,) = E (x - E x)^k, E is the mean over rows (over n, not n - 1) and |.|_2 sums over coordinates under
    a square root. The norms are not squared, so near equality the gradient does not fade with the value; at a norm of
    exactly zero it is taken as zero. Moments of different coordinates together are not compared: CMD sees marginals.

    Source: Zellinger et al., "Central moment discrepancy (CMD) for domain-invariant representation learning", ICLR
    2017, Definition 2 (the CMD regulariser), for a layer whose activations lie in [l, u]; the squash is how unbounded
    vectors get there (the paper's layers end in a sigmoid). Their Definition 1, the metric, also has the moments of
    different coordinates together, and no last k.

    Args:
        moments: K, at least 1; 1 compares means only.
        squash: ``sigmoid``, into [0, 1]; ``tanh``, into [-1, 1]; ``none``: vectors are taken as they are.
        interval: (l, u) in units of the vectors, l < u, of ``none`` only, where it is required: bounds of every
            coordinate, such as (-1, 1) for vectors of length 1. Coordinates outside of it are not clipped, and weigh
            the more the higher the moment.
        options: see :class:`PairwiseAdaptation`.

    Raises:
        CrossrecError: an option has none of its values.

    Example:
        >>> a, b = torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0], [7.0]])  # means 1 and 5, variances 1 and 4
        >>> CMD(moments=2, squash="none", interval=(0, 2)).distance(a, b).item()  # 4 / 2 + 3 / 4
        2.75
    """

    def __init__(
        self,
        *,
        moments: int = 5,
        squash: Squash = "tanh",
        interval: Sequence[float] | None = None,
        **options: Unpack[PairwiseOptions],
    ) -> None:
        super().__init__(**options)
        if isinstance(moments, bool) or not isinstance(moments, int) or moments < 1:
            raise CrossrecError(f"adaptation.{self.name}.moments={moments!r} must be a whole number of at least 1")
        if squash not in (*RANGES, "none"):
            raise CrossrecError(f"adaptation.{self.name}.squash={squash!r} must be sigmoid, tanh or none")
        self.moments = moments
        self.squash = squash
        self.interval = self._interval(interval)

    def _interval(self, interval: Sequence[float] | None) -> tuple[float, float]:
        option = f"adaptation.{self.name}.interval"
        if self.squash != "none":
            if interval is not None:
                raise CrossrecError(
                    f"{option}={interval!r} must be null with squash={self.squash}, whose values lie in "
                    f"{list(RANGES[self.squash])}"
                )
            return RANGES[self.squash]
        if interval is None or len(interval) != 2 or not 0 < interval[1] - interval[0] < math.inf:
            raise CrossrecError(f"{option}={interval!r} must be [lower, upper], lower < upper, with squash=none")
        return float(interval[0]), float(interval[1])

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """CMD of a (n, f) and b (m, f)."""
        lower, upper = self.interval
        a, b = self._squashed(a), self._squashed(b)
        a, b = centred(a, b)
        a, b = a / (upper - lower), b / (upper - lower)  # c_k(x / c) = c_k(x) / c^k
        mean_a, mean_b = a.mean(0), b.mean(0)
        total = _norm(mean_a - mean_b)
        a, b = a - mean_a, b - mean_b
        power_a, power_b = a, b
        for _ in range(2, self.moments + 1):
            power_a, power_b = power_a * a, power_b * b
            total = total + _norm(power_a.mean(0) - power_b.mean(0))
        return total

    def _squashed(self, x: Tensor) -> Tensor:
        if self.squash == "none":
            return x
        return x.sigmoid() if self.squash == "sigmoid" else x.tanh()


def _norm(x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x)  # its derivative at zero is zero
    return norm
