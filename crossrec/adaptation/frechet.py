"""Frechet distance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from crossrec.adaptation.base import PairwiseAdaptation
from crossrec.adaptation.numerics import centred
from crossrec.adaptation.options import PairwiseOptions
from crossrec.errors import CrossrecError

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Frechet(PairwiseAdaptation):
    """Squared Frechet (2-Wasserstein) distance of the Gaussians that have the two domains' means and covariances.

    For a (n, f) and b (m, f), with means mu and covariances C over n - 1 and m - 1:

        |mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2)

    summed over coordinates, not averaged; without ``mean`` only the trace. It is squared: vectors c times as long make
    it c^2 times as large.

    No matrix root is taken. With factors F^T F = C of at most f rows, the R of QR of the centred rows, and P = U V^T
    from the SVD F_a F_b^T = U S V^T, the trace is |F_a - P F_b|^2 + |F_b - P^T P F_b|^2: a sum of squares, so never
    negative and accurate near equality, at any rank (n <= f too). Singular values of at most eps |F_a| |F_b| sqrt(f),
    with eps of the number type, are rounding and are left out of P: along directions that one domain has and the other
    lacks the distance has a kink, and its derivative there is taken as the one of least length. P is held in the
    backward pass, which gives the exact first derivative and no second one.

    Source: Dowson and Landau, "The Frechet distance between multivariate normal distributions", Journal of Multivariate
    Analysis 12 (1982), the d^2 of its abstract; the trace as the least |C_a^1/2 - P C_b^1/2|^2 over rotations P from
    Bhatia, Jain and Lim, "On the Bures-Wasserstein distance between positive definite matrices", Expositiones
    Mathematicae 37 (2019).

    Args:
        mean: include the squared distance of the means.
        options: see :class:`PairwiseAdaptation`.

    Raises:
        CrossrecError: an option has none of its values.

    Example:
        >>> a, b = torch.tensor([[-1.0], [0.0], [1.0]]), torch.tensor([[2.0], [5.0], [8.0]])  # deviations 1 and 3
        >>> round(Frechet().distance(a, b).item(), 4), round(Frechet(mean=False).distance(a, b).item(), 4)
        (29.0, 4.0)
    """

    def __init__(self, *, mean: bool = True, **options: Unpack[PairwiseOptions]) -> None:
        super().__init__(**options)
        if not isinstance(mean, bool):
            raise CrossrecError(f"adaptation.{self.name}.mean={mean!r} must be true or false")
        self.mean = mean

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Squared distance of a (n, f) and b (m, f)."""
        a, b = centred(a, b)
        value = squared_bures(_factor(a), _factor(b))
        return value + (a.mean(0) - b.mean(0)).square().sum() if self.mean else value


def squared_bures(a: Tensor, b: Tensor) -> Tensor:
    """Squared Bures distance of a^T a and b^T b, from factors a (k, f) and b (l, f)."""
    rotation = _rotation(a.detach(), b.detach())
    rotated = rotation @ b
    return (a - rotated).square().sum() + (b - rotation.T @ rotated).square().sum()


def _factor(x: Tensor) -> Tensor:
    """F (min(n, f), f) with F^T F the covariance of x (n, f), whatever the basis of the rows."""
    x = (x - x.mean(0)) / (len(x) - 1) ** 0.5
    basis: Tensor = torch.linalg.qr(x.detach()).Q
    return basis.T @ x


@torch.no_grad()
def _rotation(a: Tensor, b: Tensor) -> Tensor:
    """P (k, l) that brings b (l, f) closest to a (k, f), on the directions that both have."""
    left, values, right = torch.linalg.svd(a @ b.T, full_matrices=False)
    floor = torch.finfo(a.dtype).eps * a.norm() * b.norm() * a.shape[1] ** 0.5
    rotation: Tensor = (left * (values > floor)) @ right
    return rotation
