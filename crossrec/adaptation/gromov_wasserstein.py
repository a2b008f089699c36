"""Gromov-Wasserstein discrepancy."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from crossrec.adaptation.base import PairwiseAdaptation
from crossrec.adaptation.options import PairwiseOptions
from crossrec.errors import CrossrecError
from crossrec.ranges import at_least

if TYPE_CHECKING:
    from typing_extensions import Unpack


class GromovWasserstein(PairwiseAdaptation):
    """How much the distances within one domain must change to be those within the other.

    GW(a, b) = sum over ijkl of (C_ik - D_jl)^2 P_ij P_kl, with C (n, n) and D (m, m) the distances within a and within
    b, and P (n, m) the plan with row sums 1/n and column sums 1/m that makes it small; not rooted, without the factor
    1/2 that some take. It compares shapes: a rotation, a reflection or a shift of either domain changes nothing, and
    the two need not have the same width.

    The problem is not convex. The plan is the local minimum that POT's conditional gradient (exact, without entropy)
    reaches from the uniform plan; its first step couples rows in order of their mean distance to the others, which
    finds a rotated copy of a as long as no two rows tie. Where rows tie, as two rows do, rounding chooses a plan; and
    exchanging a and b may lead to another minimum.

    The plan is found on detached distances and then fixed: dGW/dC_ik = 2 sum_jl (C_ik - D_jl) P_ij P_kl, the gradient
    at the minimum (envelope theorem). A distance between equal rows has gradient zero.

    Source: Peyré, Cuturi and Solomon, "Gromov-Wasserstein averaging of kernel and distance matrices", ICML 2016, the
    squared loss, but without their entropy. The solver is Vayer et al., "Optimal transport for structured
    data with application on graphs", ICML 2019, as in POT.

    Args:
        within: ``euclidean``: C_ik = |x_i - x_k|, and GW is in squared units of the vectors; ``squared_euclidean``:
            C_ik = |x_i - x_k|^2, and GW is in units to the fourth power.
        max_rows: rows of each domain that are compared, 2 or more; of more, every so many-th is taken, evenly, in the
            order of the batch. A comparison takes up to their third power in time: 0.05 s for 128.
        iterations: the most conditional gradient steps.
        tolerance: stop once GW changes by less than this share, or by less than this times the squared mean distance.
        options: see :class:`PairwiseAdaptation`.

    Raises:
        CrossrecError: an option has none of its values, or POT is not installed.

    Example:
        >>> shape = GromovWasserstein()
        >>> shape.distance(torch.tensor([[0.0], [2.0]]), torch.tensor([[9.0], [4.0]])).item() # (2 - 5)^2 / 2
        4.5
    """

    def __init__(
        self,
        *,
        within: Literal["euclidean", "squared_euclidean"] = "euclidean",
        max_rows: int = 128,
        iterations: int = 100,
        tolerance: float = 1e-6,
        **options: Unpack[PairwiseOptions],
    ) -> None:
        super().__init__(**options)
        if within not in ("euclidean", "squared_euclidean"):
            raise CrossrecError(f"adaptation.{self.name}.within={within!r} must be euclidean or squared_euclidean")
        at_least(f"adaptation.{self.name}.max_rows", max_rows, 2)
        at_least(f"adaptation.{self.name}.iterations", iterations, 1)
        if not 0 <= tolerance < 1:
            raise CrossrecError(f"adaptation.{self.name}.tolerance={tolerance} must be from 0 to below 1")
        _pot(self.name)  # told when the loss is made, not at the first step
        self.within = within
        self.max_rows = max_rows
        self.iterations = iterations
        self.tolerance = tolerance

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """GW of a (n, f) and b (m, h)."""
        c, d = self._within(self._thin(a)), self._within(self._thin(b))
        plan = self._plan(c.detach(), d.detach())
        rows, columns = plan.sum(1), plan.sum(0)
        return rows @ c.square() @ rows + columns @ d.square() @ columns - 2.0 * ((c @ plan @ d) * plan).sum()

    def _thin(self, x: Tensor) -> Tensor:
        if len(x) <= self.max_rows:
            return x
        return x[torch.arange(self.max_rows, device=x.device) * len(x) // self.max_rows]

    def _within(self, x: Tensor) -> Tensor:
        # without the matrix product: the root of a rounded square is far from zero where two rows are equal
        distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
        return distances if self.within == "euclidean" else distances.square()

    @torch.no_grad()
    def _plan(self, c: Tensor, d: Tensor) -> Tensor:
        tiny = torch.finfo(torch.float32).tiny
        left, right = c.cpu().double(), d.cpu().double()
        mean = (0.5 * (left.mean() + right.mean())).clamp_min(tiny)  # the plan does not feel a scale of both
        plan = _pot(self.name).gromov.gromov_wasserstein(
            (left / mean).numpy(),
            (right / mean).numpy(),
            loss_fun="square_loss",
            symmetric=True,
            max_iter=self.iterations,
            tol_rel=self.tolerance,
            tol_abs=self.tolerance,
        )
        return torch.from_numpy(plan).to(c)


def _pot(name: str) -> Any:
    try:
        return importlib.import_module("ot")
    except ImportError:
        raise CrossrecError(f"adaptation.{name} needs POT: pip install 'crossrec[transport]'") from None
