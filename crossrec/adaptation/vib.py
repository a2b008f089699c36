"""How much the shared part of a domain's vectors holds of its input, at most."""

from __future__ import annotations

from torch import Tensor

from crossrec.adaptation.base import PerDomainAdaptation
from crossrec.adaptation.pairs import DomainViews


class VIB(PerDomainAdaptation):
    """Variational information bottleneck: the divergence of each row's Gaussian from the standard one.

    1/n sum_i KL(N(m_i, diag(exp(l_i))) || N(0, I)) = 1/n sum_i sum_j 1/2 [ m_ij^2 + exp(l_ij) - 1 - l_ij ] in nats,
    over the ``mean`` m and the ``log_variance`` l (n, f) of a domain's rows: the sum over coordinates, the mean over
    rows. 0 where every mean is 0 and every variance 1. On average over all rows it is at least the mutual information
    of the input and what is drawn.

    Source: Alemi et al., "Deep variational information bottleneck", ICLR 2017, the second part of eq. (17) with a
    standard Gaussian for r; beta is the weight.

    Args:
        options: see :class:`PerDomainAdaptation`.

    Example:
        >>> import torch
        >>> layers = {"mean": torch.tensor([[2.0, 0.0]]), "log_variance": torch.zeros(1, 2)}
        >>> VIB().single(DomainViews(torch.zeros(1, 2), torch.zeros(1), torch.arange(1), layers=layers)).item()
        2.0
    """

    needs = ("mean", "log_variance")

    def single(self, view: DomainViews) -> Tensor:
        """Mean divergence of one domain's rows."""
        mean, log_variance = view.layers["mean"], view.layers["log_variance"]
        # expm1: near variance 1 the difference of exp(l) - 1 and l is all rounding otherwise
        return 0.5 * (mean.square() + log_variance.expm1() - log_variance).sum(1).mean()
