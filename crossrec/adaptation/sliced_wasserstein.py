"""Sliced Wasserstein distance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from crossrec.adaptation.base import PairwiseAdaptation
from crossrec.adaptation.numerics import centred
from crossrec.adaptation.options import PairwiseOptions
from crossrec.data.randomness import torch_generator
from crossrec.errors import CrossrecError
from crossrec.ranges import at_least

if TYPE_CHECKING:
    from typing_extensions import Unpack


class SlicedWasserstein(PairwiseAdaptation):
    """Mean Wasserstein distance of the two domains' vectors along random lines.

    SW_p^p = 1/L sum over l of W_p^p(theta_l . a, theta_l . b), with unit vectors theta_l that are uniform on the
    sphere, and in one dimension W_p^p(u, v) = integral over t in [0, 1] of |U(t) - V(t)|^p, where U and V are the
    quantile functions of u and v. Rows weigh the same. With n = m the integral is 1/n sum_i |u_(i) - v_(i)|^p over
    sorted values; with n != m both are steps, and the integral is taken exactly over the levels i/n and j/m together.

    Returned is SW_p with ``root`` and SW_p^p without: in units of the vectors, or those to the power p (the same for
    p = 1). The gradient of the root is taken as zero where SW_p is.

    Source: Bonneel, Rabin, Peyré and Pfister, "Sliced and Radon Wasserstein barycenters of measures", Journal of
    Mathematical Imaging and Vision 51 (2015), who take p = 2 without root, and the mean over the sphere by Monte Carlo.

    Args:
        p: power of the distance, 1 or 2.
        root: whether the p-th root of the mean over lines is taken.
        n_projections: L, number of lines.
        resample: draw new lines at every comparison in training. Otherwise, and in evaluation, the lines are those of
            the first one.
        seed: of the lines; with the number of draws so far, which is saved with the model, it decides them.
        options: see :class:`PairwiseAdaptation`.

    Raises:
        CrossrecError: an option has none of its values.

    Example:
        >>> gap = SlicedWasserstein(p=2, n_projections=3)
        >>> gap.distance(torch.tensor([[0.0], [2.0]]), torch.tensor([[5.0], [3.0]])).item() # 3^2: a line has no angle
        9.0
    """

    draws: Tensor

    def __init__(
        self,
        *,
        p: int = 2,
        root: bool = False,
        n_projections: int = 128,
        resample: bool = True,
        seed: int = 0,
        **options: Unpack[PairwiseOptions],
    ) -> None:
        super().__init__(**options)
        if p not in (1, 2):
            raise CrossrecError(f"adaptation.{self.name}.p={p} must be 1 or 2")
        at_least(f"adaptation.{self.name}.n_projections", n_projections, 1)
        at_least(f"adaptation.{self.name}.seed", seed, 0)
        self.p = p
        self.root = root
        self.n_projections = n_projections
        self.resample = resample
        self.seed = seed
        self.register_buffer("draws", torch.zeros((), dtype=torch.long))  # comparisons in training so far

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """SW_p or SW_p^p of a (n, f) and b (m, f)."""
        a, b = centred(a, b)
        lines = self._lines(a)
        power = wasserstein_1d(a @ lines, b @ lines, self.p).mean()
        return safe_sqrt(power) if self.root and self.p == 2 else power

    def _lines(self, like: Tensor) -> Tensor:
        draw = 0
        if self.resample and self.training:
            draw = int(self.draws)
            self.draws += 1
        generator = torch_generator(self.seed, "sliced_wasserstein", draw)
        lines = torch.randn(like.shape[1], self.n_projections, generator=generator, dtype=torch.float64)
        return torch.nn.functional.normalize(lines, dim=0).to(like)


def wasserstein_1d(u: Tensor, v: Tensor, p: int) -> Tensor:
    """W_p^p between each column of u (n, k) and of v (m, k), rows weighing the same: (k,)."""
    u, v = u.sort(0).values, v.sort(0).values
    if len(u) == len(v):
        gaps, widths = u - v, u.new_full((len(u),), 1.0 / len(u))
    else:
        of_u, of_v, widths = merged_levels(len(u), len(v), u)
        gaps = u[of_u] - v[of_v]
    return widths @ (gaps.abs() if p == 1 else gaps.square())


def merged_levels(n: int, m: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Steps on which the quantile functions of n and of m sorted values are both constant.

    Returns:
        Index of the n values, index of the m values, and width of each step, from level 0 to 1; the widths are of the
        kind of ``like`` and sum to 1. There are n + m - gcd(n, m) steps. Levels are counted in 1/(n m), so nothing is
        rounded.
    """
    starts = torch.cat([torch.arange(n, device=like.device) * m, torch.arange(m, device=like.device) * n])
    starts = torch.unique(starts)
    widths = torch.diff(starts, append=starts.new_tensor([n * m]))
    return starts // m, starts // n, widths.to(like.dtype) / (n * m)


def safe_sqrt(x: Tensor) -> Tensor:
    """Square root of a scalar that is not negative, with gradient zero at zero."""
    positive = x > torch.finfo(x.dtype).tiny
    return torch.where(positive, torch.where(positive, x, 1.0).sqrt(), 0.0)
