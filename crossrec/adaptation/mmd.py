"""Maximum mean discrepancy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from crossrec.adaptation.base import PairwiseAdaptation
from crossrec.adaptation.kernels import block_means, check_bandwidths, gaussian_mixture, one_of
from crossrec.adaptation.numerics import MEDIAN_ROWS, centred, median_square, squared_distances
from crossrec.adaptation.options import PairwiseOptions
from crossrec.errors import CrossrecError

if TYPE_CHECKING:
    from typing_extensions import Unpack

Kernel = Literal["linear", "gaussian"]
Estimator = Literal["biased", "unbiased", "linear"]


class MMD(PairwiseAdaptation):
    """Squared maximum mean discrepancy: the distance between the two domains' mean embeddings in a kernel's space.

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y), estimated from x (n, f) and y (m, f) by

    - ``biased``: 1/n^2 sum_ij k(x_i, x_j) + 1/m^2 sum_ij k(y_i, y_j) - 2/(nm) sum_ij k(x_i, y_j), eq. (5) squared,
      never negative;
    - ``unbiased``: the same with i != j, by 1/(n(n-1)) and 1/(m(m-1)), MMD_u^2; may be negative;
    - ``linear``: mean over i of k(x_2i-1, x_2i) + k(y_2i-1, y_2i) - k(x_2i-1, y_2i) - k(x_2i, y_2i-1), Lemma 14, over
      the first 2 floor(min(n, m) / 2) rows; unbiased, in time linear in rows.

    k(x, y) is <x, y> (``linear``: the squared distance of the means) or a mixture of Gaussians over q:
    exp(-|x - y|^2 / (2 c_q sigma^2)), with c the ``bandwidths``, averaged or summed.

    Source: Gretton et al., "A kernel two-sample test", JMLR 13 (2012), whose numbers those are; mixtures from Long et
    al., "Learning transferable features with deep adaptation networks", ICML 2015 (MK-MMD). Deviation: the Gaussians
    weigh the same, where the paper learns their weights.

    Args:
        kernel: ``linear`` or ``gaussian``.
        bandwidths: c_q, multiples of sigma^2.
        bandwidth: ``median``: sigma is the median distance between different rows of the pooled sample of the pair,
            without gradient; ``ema``: the running mean of its square over training steps and all pairs, saved with
            the model; a number: sigma, in units of the vectors. A median is at least 1% of the mean squared distance:
            one thing that fills a batch would make it zero.
        momentum: share of its old value that ``ema`` keeps at a step, in [0, 1).
        estimator: see above.
        reduce: ``mean`` or ``sum`` over the Gaussians.
        options: see :class:`PairwiseAdaptation`.

    Raises:
        CrossrecError: an option has none of its values.

    Example:
        >>> gap = MMD(kernel="linear")
        >>> gap.distance(torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0], [5.0]])).item() # (1 - 4)^2
        9.0
    """

    scale: Tensor

    def __init__(
        self,
        *,
        kernel: Kernel = "gaussian",
        bandwidths: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0),
        bandwidth: float | Literal["median", "ema"] = "median",
        momentum: float = 0.9,
        estimator: Estimator = "biased",
        reduce: Literal["mean", "sum"] = "mean",
        **options: Unpack[PairwiseOptions],
    ) -> None:
        super().__init__(**options)
        one_of(self.name, "kernel", kernel, ("linear", "gaussian"))
        one_of(self.name, "estimator", estimator, ("biased", "unbiased", "linear"))
        one_of(self.name, "reduce", reduce, ("mean", "sum"))
        if isinstance(bandwidth, str):
            one_of(self.name, "bandwidth", bandwidth, ("median", "ema", "or a number"))
        elif not 0 < bandwidth < math.inf:
            raise CrossrecError(f"adaptation.{self.name}.bandwidth={bandwidth} must be positive")
        check_bandwidths(self.name, bandwidths)
        if not 0 <= momentum < 1:
            raise CrossrecError(f"adaptation.{self.name}.momentum={momentum} must be from 0 to below 1")
        self.kernel = kernel
        self.bandwidths = tuple(float(c) for c in bandwidths)
        self.bandwidth = bandwidth
        self.momentum = momentum
        self.estimator = estimator
        self.reduce = reduce
        self.register_buffer("scale", torch.zeros(()))  # running sigma^2 of bandwidth=ema; 0 before the first step

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """MMD^2 of a (n, f) and b (m, f)."""
        a, b = centred(a, b)
        if self.estimator == "linear":
            return self._linear_time(a, b)
        if self.kernel == "linear":
            return _linear_kernel(a, b, unbiased=self.estimator == "unbiased")
        squares = squared_distances(torch.cat([a, b]))
        kernel = self._gaussian(squares, self._sigma_squared(squares.detach()))
        return block_means(kernel, len(a), unbiased=self.estimator == "unbiased")

    def _linear_time(self, a: Tensor, b: Tensor) -> Tensor:
        n = min(len(a), len(b)) // 2 * 2
        x1, x2, y1, y2 = a[0:n:2], a[1:n:2], b[0:n:2], b[1:n:2]
        if self.kernel == "linear":
            return ((x1 - y1) * (x2 - y2)).sum(1).mean()
        pooled = torch.cat([a, b]).detach()
        sigma = self._sigma_squared(squared_distances(pooled[:: -(-len(pooled) // MEDIAN_ROWS)]))
        squares = torch.stack([(p - q).square().sum(1) for p, q in ((x1, x2), (y1, y2), (x1, y2), (x2, y1))])
        kernel = self._gaussian(squares, sigma)
        return (kernel[0] + kernel[1] - kernel[2] - kernel[3]).mean()

    def _gaussian(self, squares: Tensor, sigma_squared: Tensor) -> Tensor:
        return gaussian_mixture(squares, sigma_squared, self.bandwidths, self.reduce)

    @torch.no_grad()
    def _sigma_squared(self, squares: Tensor) -> Tensor:
        if not isinstance(self.bandwidth, str):
            return squares.new_tensor(self.bandwidth**2)
        now = median_square(squares)
        if self.bandwidth == "median":
            return now
        if self.training:
            old = self.scale.to(now.dtype)
            self.scale.copy_(torch.where(old > 0, self.momentum * old + (1 - self.momentum) * now, now))
        running: Tensor = torch.where(self.scale > 0, self.scale.to(now.dtype), now)
        return running


def _linear_kernel(a: Tensor, b: Tensor, *, unbiased: bool) -> Tensor:
    gap = (a.mean(0) - b.mean(0)).square().sum()
    if not unbiased:
        return gap
    # E over i != j of <x_i, x_j> is |mean|^2 less the mean squared deviation over n - 1
    return gap - a.var(0, unbiased=True).sum() / len(a) - b.var(0, unbiased=True).sum() / len(b)
