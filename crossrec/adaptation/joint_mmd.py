"""Joint maximum mean discrepancy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from crossrec.adaptation.base import DomainViews, PairwiseAdaptation
from crossrec.adaptation.kernels import block_means, check_bandwidths, gaussian_mixture, one_of
from crossrec.adaptation.numerics import centred, median_square, squared_distances
from crossrec.adaptation.options import PairwiseOptions
from crossrec.errors import CrossrecError

if TYPE_CHECKING:
    from typing_extensions import Unpack


class JointMMD(PairwiseAdaptation):
    """Squared maximum mean discrepancy between the joint distributions of the vectors and of what they were seen with.

    A row i of a domain is the pair z_i = (x_i, y_i): a user's vector and the vector of the item it was seen with (or
    the reverse, in the space of items). With k(z_i, z_j) = k1(x_i, x_j) k2(y_i, y_j), n rows s of the one domain and m
    rows t of the other, JMMD^2 is

    - ``biased``: 1/n^2 sum_ij k(s_i, s_j) + 1/m^2 sum_ij k(t_i, t_j) - 2/(nm) sum_ij k(s_i, t_j), never negative;
    - ``unbiased``: the same with i != j, by 1/(n(n-1)) and 1/(m(m-1)); may be negative.

    k1 and k2 are mixtures of Gaussians over q, exp(-|.|^2 / (2 c_q sigma^2)), with c the ``bandwidths``, averaged or
    summed, and a sigma of each layer's own. Zero between equal joint samples; it feels which item goes with which user
    where users, and items, alone are distributed alike.

    Source: Long et al., "Deep transfer learning with joint adaptation networks", ICML 2017, the empirical JMMD.
    Deviations: the layers are the two towers' vectors, not a network's features and class probabilities; the gradient
    reaches both towers; bandwidths are those of :class:`~crossrec.adaptation.mmd.MMD`; a layer's Gaussians are averaged
    (the authors' code adds them up, as ``sum``); no estimate in linear time; no adversarial map of the layers (JAN-A).

    Args:
        bandwidths: c_q, multiples of sigma^2.
        bandwidth: ``median``: sigma of a layer is the median distance between different rows of its pooled sample of
            the pair of domains, without gradient, floored as in MMD; or a number: sigma of both layers, in units of the
            vectors.
        estimator: see above.
        reduce: ``mean`` or ``sum`` over the Gaussians of a layer.
        options: see :class:`PairwiseAdaptation`.

    Raises:
        CrossrecError: an option has none of its values.

    Example:
        >>> users, items = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [1.0]])
        >>> loss = JointMMD(bandwidth=0.1, bandwidths=[1.0])
        >>> round(loss.joint([(users, users), (items, items)]).item(), 4)
        0.0
        >>> round(loss.joint([(users, users), (items, items.flip(0))]).item(), 4)  # 1/2 + 1/2: no pair is in both
        1.0
    """

    needs = ("partner",)

    def __init__(
        self,
        *,
        bandwidths: Sequence[float] = (0.25, 0.5, 1.0, 2.0, 4.0),
        bandwidth: float | Literal["median"] = "median",
        estimator: Literal["biased", "unbiased"] = "biased",
        reduce: Literal["mean", "sum"] = "mean",
        **options: Unpack[PairwiseOptions],
    ) -> None:
        super().__init__(**options)
        one_of(self.name, "estimator", estimator, ("biased", "unbiased"))
        one_of(self.name, "reduce", reduce, ("mean", "sum"))
        if isinstance(bandwidth, str):
            one_of(self.name, "bandwidth", bandwidth, ("median", "or a number"))
        elif not bandwidth > 0:
            raise CrossrecError(f"adaptation.{self.name}.bandwidth={bandwidth} must be positive")
        check_bandwidths(self.name, bandwidths)
        self.bandwidths = tuple(float(c) for c in bandwidths)
        self.bandwidth = bandwidth
        self.estimator = estimator
        self.reduce = reduce

    def compare(self, a: DomainViews, b: DomainViews, pair: tuple[int, int]) -> Tensor:
        """JMMD^2 of the vectors and partners of two domains' rows."""
        return self.joint([(a.vectors, b.vectors), (a.layers["partner"], b.layers["partner"])])

    def joint(self, layers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """JMMD^2 of one or more layers, each (n, f) of the one domain and (m, f) of the other, rows in one order."""
        kernel: Tensor | None = None
        for a, b in layers:
            a, b = centred(a, b)
            squares = squared_distances(torch.cat([a, b]))
            own = gaussian_mixture(squares, self._sigma_squared(squares.detach()), self.bandwidths, self.reduce)
            kernel = own if kernel is None else kernel * own
        assert kernel is not None
        return block_means(kernel, len(layers[0][0]), unbiased=self.estimator == "unbiased")

    def _sigma_squared(self, squares: Tensor) -> Tensor:
        if isinstance(self.bandwidth, str):
            return median_square(squares)
        return squares.new_tensor(self.bandwidth**2)
