"""Agreement of two domains' coordinates, and of nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from crossrec.adaptation.base import PairedAdaptation
from crossrec.adaptation.options import PairedOptions
from crossrec.ranges import at_least

if TYPE_CHECKING:
    from typing_extensions import Unpack


class BarlowTwins(PairedAdaptation):
    """Squared distance of the cross-correlation matrix of matched rows from the identity.

    L = sum_i (1 - C_ii)^2 + lambda sum_i sum_{j != i} C_ij^2, eq. (1), with, over the k matched rows r, eq. (2),

    C_ij = 1/k sum_r (a_ri - mean a_i) (b_rj - mean b_j) / (sd a_i * sd b_j).

    sd is over k, not k - 1, and floored: sd^2 = max(variance, eps^2), so a constant coordinate has correlation 0 with
    every other and adds 1. Sums, not means, over the f coordinates.

    Source: Zbontar et al., "Barlow Twins: self-supervised learning via redundancy reduction", ICML 2021, eq. (1)-(2),
    without their projector; eps is not in the paper (its code adds 1e-5 to the variance instead).

    Args:
        redundancy: lambda, 0 or more.
        eps: least standard deviation of a coordinate, in units of the vectors, positive.
        options: see :class:`PairedAdaptation`.

    Raises:
        CrossrecError: an option has none of its values.

    Example:
        >>> x = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
        >>> BarlowTwins().paired(x, 5 * x + 2).item(), BarlowTwins().paired(x, -x).item()  # twice (1 + 1)^2
        (0.0, 8.0)
    """

    min_rows = 2

    def __init__(self, *, redundancy: float = 0.005, eps: float = 1e-4, **options: Unpack[PairedOptions]) -> None:
        super().__init__(**options)
        at_least(f"adaptation.{self.name}.redundancy", redundancy, 0)
        at_least(f"adaptation.{self.name}.eps", eps, 0, strictly=True)
        self.redundancy = float(redundancy)
        self.eps = float(eps)

    def paired(self, a: Tensor, b: Tensor) -> Tensor:
        """Loss of a (k, f) and b (k, f)."""
        correlation = self._standardised(a).T @ self._standardised(b) / len(a)
        diagonal = correlation.diagonal()
        off = correlation.masked_fill(torch.eye(len(correlation), dtype=torch.bool, device=a.device), 0.0)
        return (1.0 - diagonal).square().sum() + self.redundancy * off.square().sum()

    def _standardised(self, x: Tensor) -> Tensor:
        x = x - x.mean(0)
        return x / x.square().mean(0).clamp_min(self.eps**2).sqrt()
