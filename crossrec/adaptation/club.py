"""An upper bound of the information that the shared and the private part of a domain's vectors have in common."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call

from crossrec.adaptation.base import PerDomainAdaptation
from crossrec.adaptation.numerics import SHORTEST, check_width
from crossrec.adaptation.options import PerDomainOptions
from crossrec.adaptation.pairs import DomainViews
from crossrec.adaptation.perceptron import mlp
from crossrec.ranges import at_least

if TYPE_CHECKING:
    from typing_extensions import Unpack

LARGEST_LOG_VARIANCE = 5.0
"""Log variances of q lie between this and its negative, in units of the private part's mean variance."""


class CLUB(PerDomainAdaptation):
    """Contrastive log-ratio upper bound of the mutual information of the shared and the private part.

    With s_i the shared and p_i the private vectors of a domain's n rows, each centred and divided by the root of its
    mean variance over coordinates, and q(p | s) = N(m(s), diag(v(s))) the domain's own,

        L = 1/n sum_i [ log q(p_i | s_i) - 1/n sum_j log q(p_j | s_i) ] in nats.

    The sum over j is that of all n rows, in closed form: 1/n sum_j (p_jc - m_ic)^2 is the variance of p_c plus
    (mean of p_c - m_ic)^2. m and v are the two halves of W2 tanh(W1 s + c1) + c2; log v is held within +-5 by
    5 tanh(x / 5).

    The gradient of the vectors is that of L with q held; q learns at the same time from the vectors held, by
    maximum likelihood: the gradient of -1/n sum_i log q(p_i | s_i), times the weight, which Adam does not feel. That
    part has no share in the value. The mean of log q(p_i | s_i) is logged as ``log_likelihood/<domain>``.

    L is an upper bound where q is near the true conditional, and not a tight one: between Gaussians of correlation r it
    is r^2 / (1 - r^2) a coordinate, where the information is -1/2 log(1 - r^2).

    Source: Cheng et al., "CLUB: a contrastive log-ratio upper bound of mutual information", ICML 2020, the variational
    bound vCLUB with all pairs as negatives. Deviations: both sides are standardised, so the scale of the vectors is
    nothing to gain; q takes one step for each of the vectors' steps, in the same optimizer.

    Args:
        dim: f, the width of the vectors (``dim`` of the run).
        hidden: width of the hidden layer of q; None is 2 f.
        seed: of q's first values: Xavier-uniform with zero biases for the hidden layer, zeros for the second, so q
            starts as the standard Gaussian.
        options: see :class:`PerDomainAdaptation`. Of a domain whose parts have a mean variance of 1e-12 or less the
            value is 0.

    Raises:
        CrossrecError: an option has none of its values, or the vectors are not ``dim`` wide.
    """

    min_rows = 2
    needs = ("shared", "private")

    def __init__(
        self, *, dim: int, hidden: int | None = None, seed: int = 0, **options: Unpack[PerDomainOptions]
    ) -> None:
        super().__init__(**options)
        at_least(f"adaptation.{self.name}.dim", dim, 1)
        at_least(f"adaptation.{self.name}.hidden", hidden, 1)
        self.dim = dim
        self.conditionals = nn.ModuleList()
        self._hidden = hidden or 2 * dim
        self._seed = seed

    def prepare(self, n_domains: int) -> None:
        """Build q for each domain; they start from different values."""
        self.conditionals.extend(_conditional(self.dim, self._hidden, self._seed + d) for d in range(n_domains))

    def single(self, view: DomainViews) -> Tensor:
        """Bound of one domain's rows."""
        domain = int(view.domains[0])
        shared, private = _standardised(view.layers["shared"]), _standardised(view.layers["private"])
        check_width(self.name, self.dim, shared)
        likelihood = self.log_likelihood(shared.detach(), private.detach(), domain)
        self.log(f"log_likelihood/{domain}", likelihood)
        return self.bound(shared, private, domain) + (likelihood.detach() - likelihood)

    def log_likelihood(self, shared: Tensor, private: Tensor, domain: int) -> Tensor:
        """Mean over rows of log q(p_i | s_i), for standardised ``shared`` and ``private`` (n, f)."""
        mean, log_variance = _halves(self.conditionals[domain](shared))
        errors = (private - mean).square() * (-log_variance).exp()
        return -0.5 * (errors + log_variance + math.log(2.0 * math.pi)).sum(1).mean()

    def bound(self, shared: Tensor, private: Tensor, domain: int) -> Tensor:
        """L of standardised ``shared`` and ``private`` (n, f); without gradient for q."""
        q = self.conditionals[domain]
        held = {name: parameter.detach() for name, parameter in q.named_parameters()}
        mean, log_variance = _halves(functional_call(q, held, (shared,)))
        others = private.var(0, correction=0) + (private.mean(0) - mean).square()
        return (0.5 * (others - (private - mean).square()) * (-log_variance).exp()).sum(1).mean()


def _standardised(x: Tensor) -> Tensor:
    """Rows of ``x`` (n, f) less their mean, over the root of their mean variance; 0 where there is none."""
    x = x - x.mean(0)
    variance = x.square().mean()
    some = variance > SHORTEST**2
    return torch.where(some, x * torch.where(some, variance, 1.0).rsqrt(), 0.0)


def _halves(outputs: Tensor) -> tuple[Tensor, Tensor]:
    mean, free = outputs.chunk(2, 1)
    return mean, LARGEST_LOG_VARIANCE * torch.tanh(free / LARGEST_LOG_VARIANCE)


def _conditional(dim: int, hidden: int, seed: int) -> nn.Module:
    q = mlp([dim, hidden, 2 * dim], "tanh", seed)
    for parameter in q[-1].parameters():
        nn.init.zeros_(parameter)
    return q
