"""Dependence of two domains' vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import Tensor

from crossrec.adaptation.base import PairedAdaptation
from crossrec.adaptation.numerics import median_square, squared_distances
from crossrec.adaptation.options import PairedOptions
from crossrec.errors import CrossrecError

if TYPE_CHECKING:
    from typing_extensions import Unpack


class HSIC(PairedAdaptation):
    """Hilbert-Schmidt independence criterion of matched rows: how far the two sides are from independent.

    tr(K H L H) / (n - 1)^2 over n matched rows, K_ij = k(a_i, a_j), L_ij = k(b_i, b_j), H = I - 1/n: the biased
    estimate, never negative, and of order 1/n between independent sides. k(x, y) is

    - ``linear``: <x, y>; the sum of the squared entries of the cross-covariance (over n - 1) of a and b;
    - ``gaussian``: exp(-|x - y|^2 / (2 sigma^2)), sigma each side's own.

    Training lowers it, so the sides become independent: it keeps what is private to a domain out of the other's
    vectors, the opposite of a loss that aligns them. Other views, such as a shared and a private one of the same users,
    go into :meth:`paired` directly. Its gradient also shrinks the vectors (a constant is independent of everything),
    under ``median``, whose sigma is held, even though the value does not feel it.

    Source: Gretton et al., "Measuring statistical dependence with Hilbert-Schmidt norms", ALT 2005, the empirical HSIC.

    Args:
        kernel: ``linear`` or ``gaussian``.
        bandwidth: ``median``: sigma is the median distance between different rows of the side, without gradient, and at
            least a tenth of the root of their mean square (more than 1024 rows are thinned evenly for it); a number:
            sigma, in units of the vectors. Of ``gaussian``.
        options: see :class:`PairedAdaptation`.

    Raises:
        CrossrecError: an option has none of its values.

    Example:
        >>> import torch
        >>> a, b = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [4.0]])
        >>> HSIC(kernel="linear").paired(a, b).item()  # covariance 3, squared
        9.0
    """

    min_rows = 2

    def __init__(
        self,
        *,
        kernel: Literal["linear", "gaussian"] = "gaussian",
        bandwidth: float | Literal["median"] = "median",
        **options: Unpack[PairedOptions],
    ) -> None:
        super().__init__(**options)
        if kernel not in ("linear", "gaussian"):
            raise CrossrecError(f"adaptation.{self.name}.kernel={kernel!r} must be linear or gaussian")
        if bandwidth != "median" and (isinstance(bandwidth, str) or not bandwidth > 0):
            raise CrossrecError(f"adaptation.{self.name}.bandwidth={bandwidth!r} must be median or a positive number")
        self.kernel = kernel
        self.bandwidth = bandwidth

    def paired(self, a: Tensor, b: Tensor) -> Tensor:
        """HSIC of a (n, f) and b (n, f)."""
        n = len(a)
        a, b = a - a.mean(0), b - b.mean(0)
        if self.kernel == "linear":
            return (a.T @ b / (n - 1)).square().sum()
        left, right = _centred(self._gaussian(a)), _centred(self._gaussian(b))
        return (left * right).sum() / (n - 1) ** 2

    def _gaussian(self, x: Tensor) -> Tensor:
        squares = squared_distances(x)
        if isinstance(self.bandwidth, str):
            return (-0.5 / median_square(squares.detach()) * squares).exp()
        return (-0.5 / self.bandwidth**2 * squares).exp()


def _centred(kernel: Tensor) -> Tensor:
    """H K H of a symmetric ``kernel`` (n, n)."""
    means = kernel.mean(0)
    return kernel - means.unsqueeze(0) - means.unsqueeze(1) + means.mean()
