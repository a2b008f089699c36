"""A map from an id's vector in one domain to its vector in another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

from crossrec.adaptation.base import DomainViews, PairedAdaptation
from crossrec.adaptation.numerics import check_width, unit_rows
from crossrec.adaptation.options import PairedOptions
from crossrec.adaptation.perceptron import mlp
from crossrec.errors import CrossrecError
from crossrec.ranges import at_least

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Mapping(PairedAdaptation):
    """Distance between the mapped vectors of the first domain and the same ids' vectors in the second.

    With g the map and k matched rows,

    - ``mse``: 1/(k f) sum_i |g(a_i) - b_i|^2, the mean over rows and coordinates;
    - ``cosine``: 1/k sum_i [ 1 - cos(g(a_i), b_i) ], in [0, 2].

    g is W a (``linear``, no bias), W2 tanh(W1 a + c1) + c2 (``mlp``) or a (``identity``). The first domain of a pair is
    the one named first in the log key: the source under ``pairs=target``. Each pair of domains has its own map, trained
    and saved with the strategy; ``pairs=target, gradient=none`` is EMCDR's.

    Source: Man et al., "Cross-domain recommendation: an embedding and mapping approach" (EMCDR), IJCAI 2017, the latent
    space mapping, with the sum of squared errors made a mean, and, unless ``gradient=none``, learnt together with the
    vectors instead of after them.

    Args:
        dim: f, the width of the vectors (``dim`` of the run).
        map: ``linear``, ``mlp`` or ``identity``.
        hidden: width of the hidden layer of ``mlp``; None is 2 f, as in the paper.
        distance: ``mse`` or ``cosine``. A row of length 1e-6 or less has cosine 0 with every row and gets no gradient.
        gradient: the vectors that the loss moves: ``both`` domains', the ``first``'s, with the second's as a fixed
            goal, or ``none``, so that only the map learns. With ``both``, vectors that shrink also lower ``mse``.
        seed: of the map's first values, which are Xavier-uniform, with zero biases.
        options: see :class:`PairedAdaptation`.

    Raises:
        CrossrecError: an option has none of its values, or the vectors are not ``dim`` wide.

    Example:
        >>> same = Mapping(dim=2, map="identity")
        >>> same.prepare(n_domains=2)
        >>> same.paired(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 1.0]])).item()  # (9 + 1) / 2
        5.0
    """

    def __init__(
        self,
        *,
        dim: int,
        map: Literal["linear", "mlp", "identity"] = "linear",
        hidden: int | None = None,
        distance: Literal["mse", "cosine"] = "mse",
        gradient: Literal["both", "first", "none"] = "both",
        seed: int = 0,
        **options: Unpack[PairedOptions],
    ) -> None:
        super().__init__(**options)
        at_least(f"adaptation.{self.name}.dim", dim, 1)
        if map not in ("linear", "mlp", "identity"):
            raise CrossrecError(f"adaptation.{self.name}.map={map!r} must be linear, mlp or identity")
        if hidden is not None and (map != "mlp" or hidden < 1):
            raise CrossrecError(f"adaptation.{self.name}.hidden={hidden} must be null, or 1 or more with map=mlp")
        if distance not in ("mse", "cosine"):
            raise CrossrecError(f"adaptation.{self.name}.distance={distance!r} must be mse or cosine")
        if gradient not in ("both", "first", "none"):
            raise CrossrecError(f"adaptation.{self.name}.gradient={gradient!r} must be both, first or none")
        if gradient == "none" and map == "identity":
            raise CrossrecError(f"adaptation.{self.name}.gradient=none must be both or first with map=identity")
        self.dim = dim
        self.distance = distance
        self.gradient = gradient
        self.maps = nn.ModuleDict()
        self._widths = {"identity": [], "linear": [dim, dim], "mlp": [dim, hidden or 2 * dim, dim]}[map]
        self._seed = seed

    def prepare(self, n_domains: int) -> None:
        """Build a map for each pair of domains; pairs start from different values."""
        for a in range(n_domains):
            for b in range(n_domains):
                if a < b or (self.pairs == "target" and a != b):
                    self.maps[f"{a}-{b}"] = mlp(
                        self._widths, "tanh", self._seed + a * n_domains + b, bias=len(self._widths) > 2
                    )

    def compare(self, a: DomainViews, b: DomainViews, pair: tuple[int, int]) -> Tensor:
        """Use the pair's own map."""
        return self.paired(a.vectors, b.vectors, pair)

    def paired(self, a: Tensor, b: Tensor, pair: tuple[int, int] = (0, 1)) -> Tensor:
        """Distance of g(a) and b, a and b (k, f), with g the map from ``pair[0]`` to ``pair[1]``."""
        check_width(self.name, self.dim, a)
        a = a.detach() if self.gradient == "none" else a
        b = b if self.gradient == "both" else b.detach()
        mapped: Tensor = self.maps[f"{pair[0]}-{pair[1]}"](a)
        if self.distance == "mse":
            return (mapped - b).square().mean()
        return 1.0 - (unit_rows(mapped) * unit_rows(b)).sum(1).mean()
