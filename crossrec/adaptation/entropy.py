"""Confident and even assignment of each domain's vectors to clusters that the domains share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from crossrec.adaptation.base import PerDomainAdaptation
from crossrec.adaptation.numerics import check_width, entropies, unit_rows
from crossrec.adaptation.options import PerDomainOptions
from crossrec.adaptation.pairs import DomainViews
from crossrec.ranges import at_least

if TYPE_CHECKING:
    from typing_extensions import Unpack


class ClusterEntropy(PerDomainAdaptation):
    """Mean entropy of soft cluster assignments, less the entropy of the mean assignment.

    With c_1..c_K learnt prototypes, the same for all domains, and p_ik = softmax_k(cos(x_i, c_k) / t) over a domain's n
    rows, L = 1/n sum_i H(p_i) - d H(1/n sum_i p_i), H(p) = -sum_k p_k log p_k in nats; from -d log K (d <= 1) to log K.

    The first part makes every row sure of its cluster, the second every domain use all clusters alike: at d = 1, L is
    the mutual information of row and cluster, negated. The clusters stand in for classes, which recommendation does not
    have: this is not the entropy of a recommender's scores.

    Source: Liang, Hu and Feng, "Do we really need to access the source data? Source hypothesis transfer for
    unsupervised domain adaptation", ICML 2020, the losses L_ent and L_div of SHOT-IM, with prototypes for the
    classifier; mutual information from Krause, Perona and Gomes, "Discriminative clustering by regularized information
    maximization", NIPS 2010, without their regulariser.

    Args:
        dim: f, the width of the vectors (``dim`` of the run).
        clusters: K, 2 or more.
        temperature: t, positive; in units of the cosine.
        diversity: d, 0 or more; at 0 one cluster may take every row. Sure rows hardly move: where t is low, uneven
            clusters stay so unless d is above 1.
        seed: of the prototypes' first values, standard normal; only their directions count.
        options: see :class:`PerDomainAdaptation`. A row of length 1e-6 or less is assigned evenly, without gradient.

    Raises:
        CrossrecError: an option has none of its values, or the vectors are not ``dim`` wide.

    Example:
        >>> view = DomainViews(torch.zeros(2, 3), torch.zeros(2), torch.arange(2))  # even in each row and over rows
        >>> round(ClusterEntropy(dim=3, clusters=4, diversity=0.5).single(view).item(), 4)  # log(4) / 2
        0.6931
    """

    min_rows = 2

    def __init__(
        self,
        *,
        dim: int,
        clusters: int = 16,
        temperature: float = 0.1,
        diversity: float = 1.0,
        seed: int = 0,
        **options: Unpack[PerDomainOptions],
    ) -> None:
        super().__init__(**options)
        at_least(f"adaptation.{self.name}.dim", dim, 1)
        at_least(f"adaptation.{self.name}.clusters", clusters, 2)
        at_least(f"adaptation.{self.name}.temperature", temperature, 0, strictly=True)
        at_least(f"adaptation.{self.name}.diversity", diversity, 0)
        self.temperature = float(temperature)
        self.diversity = float(diversity)
        self.prototypes = nn.Parameter(torch.randn(clusters, dim, generator=torch.Generator().manual_seed(seed)))

    def single(self, view: DomainViews) -> Tensor:
        """Loss of one domain's rows."""
        logs = self.log_assignments(view.vectors)
        rows = entropies(logs).mean()
        return rows - self.diversity * entropies(logs.logsumexp(0) - math.log(len(logs)))

    def log_assignments(self, vectors: Tensor) -> Tensor:
        """Return log p (n, K) of ``vectors`` (n, f)."""
        check_width(self.name, self.prototypes.shape[1], vectors)
        return (unit_rows(vectors) @ unit_rows(self.prototypes).T / self.temperature).log_softmax(1)
