"""Correlation alignment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from crossrec.adaptation.base import PairwiseAdaptation
from crossrec.adaptation.numerics import centred
from crossrec.adaptation.options import PairwiseOptions
from crossrec.errors import CrossrecError

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Coral(PairwiseAdaptation):
    """Squared Frobenius distance between the two domains' covariances.

    For a (n, f) and b (m, f), whose covariances C (f, f) are over n - 1 and m - 1:

        |C_a - C_b|_F^2 / (4 f^2), and with ``mean`` + |mean(a) - mean(b)|^2 / f

    The first is a sum over f^2 entries divided by 4 f^2, the second the mean squared gap of a coordinate. A shift of
    one domain leaves the first as it is; vectors c times as long make it c^4 times as large, and the second c^2 times.

    Source: Sun and Saenko, "Deep CORAL: correlation alignment for deep domain adaptation", ECCV workshops 2016,
    eq. (1); the means are no part of the paper's loss.

    Args:
        mean: add the squared distance of the means, which covariances do not feel.
        options: see :class:`PairwiseAdaptation`.

    Raises:
        CrossrecError: an option has none of its values.

    Example:
        >>> import torch
        >>> a, b = torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0], [7.0]])  # variances 2 and 8, means 1 and 5
        >>> Coral().distance(a, b).item(), Coral(mean=True).distance(a, b).item()  # (2 - 8)^2 / 4, + (1 - 5)^2
        (9.0, 25.0)
    """

    def __init__(self, *, mean: bool = False, **options: Unpack[PairwiseOptions]) -> None:
        super().__init__(**options)
        if not isinstance(mean, bool):
            raise CrossrecError(f"adaptation.{self.name}.mean={mean!r} must be true or false")
        self.mean = mean

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance of a (n, f) and b (m, f)."""
        a, b = centred(a, b)
        value = (covariance(a) - covariance(b)).div(2 * a.shape[1]).square().sum()
        return value + (a.mean(0) - b.mean(0)).square().mean() if self.mean else value


def covariance(x: Tensor) -> Tensor:
    """Covariance (f, f) of the rows of ``x`` (n, f), n >= 2, over n - 1."""
    x = x - x.mean(0)
    return x.T @ x / (len(x) - 1)
