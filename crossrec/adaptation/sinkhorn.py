"""Sinkhorn divergence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from crossrec.adaptation.base import PairwiseAdaptation
from crossrec.adaptation.numerics import centred, median_square, squared_distances
from crossrec.adaptation.options import PairwiseOptions
from crossrec.errors import CrossrecError
from crossrec.ranges import at_least

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Sinkhorn(PairwiseAdaptation):
    """Entropic optimal transport between the two domains' vectors, less its own bias.

    S_eps(a, b) = OT_eps(a, b) - (OT_eps(a, a) + OT_eps(b, b)) / 2 with ``debiased``, else OT_eps(a, b), where

    OT_eps(a, b) = min over plans P of sum_ij P_ij C_ij + eps KL(P | 1/(nm)), P with row sums 1/n and column sums 1/m,
    C_ij = |x_i - y_j|^p / p, and KL(P | Q) = sum_ij P_ij log(P_ij / Q_ij): half the squared distance for p = 2, in
    units of the vectors to the power p.

    It is computed in the log domain through the potentials f (n,) and g (m,), 0 at first, which all three problems move
    half-way to their optimum at once (the symmetric updates of the authors' geomloss), for k = 0, 1, ...:

    - f_i <- (f_i - eps_k log mean_j exp((g_j - C_ij) / eps_k)) / 2,
    - g_j <- (g_j - eps_k log mean_i exp((f_i - C_ij) / eps_k)) / 2,

    with eps_k = max(eps, scaling^k max C), and eps in the last step. The value is the dual objective
    mean f + mean g - eps (mean_ij exp((f_i + g_j - C_ij) / eps) - 1), which is never more than OT_eps and is off by the
    square of the potentials' error. As updates treat both sides alike, S_eps is symmetric and S_eps(a, a) = 0 after any
    number of iterations.

    Source: Feydy, Séjourné, Vialard, Amari, Trouvé and Peyré, "Interpolating between optimal transport and MMD using
    Sinkhorn divergences", AISTATS 2019, section 1.

    Args:
        p: power of the cost, 1 or 2. At distance zero the cost of p = 1 has gradient zero.
        epsilon: eps, positive. With ``relative`` a multiple of the cost between two rows at the median distance of the
            pooled sample of the pair, without gradient (floored as in :class:`~crossrec.adaptation.mmd.MMD`); otherwise
            in units of the cost (geomloss's ``blur`` to the power p).
        relative: see ``epsilon``.
        debiased: whether the two self-transports are taken off. Without, the loss is least where b has collapsed
            towards the middle of a.
        scaling: of eps from one update to the next while it comes down from the largest cost, from 0 (at once) to below
            1. A small ``epsilon`` needs a slower descent (0.9) and more iterations.
        iterations: the most updates of each potential.
        tolerance: stop once no potential would move by more than ``tolerance`` times eps; 0 never stops early.
        gradient: ``envelope``: of the dual objective at fixed potentials, dS/dC_ij = P_ij, exact when they have
            converged and cheap; ``unrolled``: through every update, exact always, in memory of iterations n m.
        options: see :class:`PairwiseAdaptation`.

    Raises:
        CrossrecError: an option has none of its values.

    Example:
        >>> gap = Sinkhorn(p=2)
        >>> round(gap.distance(torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0], [5.0]])).item(), 2) # 3^2 / 2
        4.5
    """

    def __init__(
        self,
        *,
        p: int = 2,
        epsilon: float = 0.1,
        relative: bool = True,
        debiased: bool = True,
        scaling: float = 0.5,
        iterations: int = 100,
        tolerance: float = 1e-3,
        gradient: Literal["envelope", "unrolled"] = "envelope",
        **options: Unpack[PairwiseOptions],
    ) -> None:
        super().__init__(**options)
        if p not in (1, 2):
            raise CrossrecError(f"adaptation.{self.name}.p={p} must be 1 or 2")
        at_least(f"adaptation.{self.name}.epsilon", epsilon, 0, strictly=True)
        if not 0 <= scaling < 1:
            raise CrossrecError(f"adaptation.{self.name}.scaling={scaling} must be from 0 to below 1")
        at_least(f"adaptation.{self.name}.iterations", iterations, 1)
        if not 0 <= tolerance < 1:
            raise CrossrecError(f"adaptation.{self.name}.tolerance={tolerance} must be from 0 to below 1")
        if gradient not in ("envelope", "unrolled"):
            raise CrossrecError(f"adaptation.{self.name}.gradient={gradient!r} must be envelope or unrolled")
        self.p = p
        self.epsilon = epsilon
        self.relative = relative
        self.debiased = debiased
        self.scaling = scaling
        self.iterations = iterations
        self.tolerance = tolerance
        self.gradient = gradient

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """S_eps or OT_eps of a (n, f) and b (m, f)."""
        cost, median = self._cost(torch.cat(centred(a, b)))
        eps = self.epsilon * median if self.relative else cost.new_tensor(self.epsilon)
        n, largest = len(a), cost.amax()
        value = self._transport(cost[:n, n:], eps, largest)
        if not self.debiased:
            return value
        within = self._transport(cost[:n, :n], eps, largest) + self._transport(cost[n:, n:], eps, largest)
        return value - 0.5 * within

    def _cost(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Cost between all rows, and what it is at their median distance, detached."""
        if self.p == 2:
            squares = squared_distances(x)
            return 0.5 * squares, 0.5 * median_square(squares.detach())
        # exact at zero, where the root of a rounded square is not; its gradient there is zero
        distances = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
        return distances, median_square(distances.detach().square()).sqrt()

    def _transport(self, cost: Tensor, eps: Tensor, largest: Tensor) -> Tensor:
        if self.gradient == "unrolled":
            f, g = self._potentials(cost, eps, largest)
        else:
            with torch.no_grad():
                f, g = self._potentials(cost, eps, largest)
        mass = ((f.unsqueeze(1) + g.unsqueeze(0) - cost) / eps).exp().mean()
        return f.mean() + g.mean() - eps * (mass - 1.0)

    def _potentials(self, cost: Tensor, eps: Tensor, largest: Tensor) -> tuple[Tensor, Tensor]:
        n, m = cost.shape
        f, g = cost.new_zeros(n), cost.new_zeros(m)
        for k in range(self.iterations):
            now = eps if k == self.iterations - 1 else torch.maximum(eps, largest * self.scaling**k)
            new_f = now * (math.log(m) - ((g.unsqueeze(0) - cost) / now).logsumexp(1))
            new_g = now * (math.log(n) - ((f.unsqueeze(1) - cost) / now).logsumexp(0))
            move = torch.maximum((new_f - f).detach().abs().amax(), (new_g - g).detach().abs().amax())
            f, g = 0.5 * (f + new_f), 0.5 * (g + new_g)
            if self.tolerance and bool((now == eps) & (move <= self.tolerance * eps)):
                break
        return f, g
