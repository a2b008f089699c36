"""How much each domain's rows count in the recommendation loss, over the course of training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from crossrec.errors import CrossrecError
from crossrec.suggestions import nearest


class DomainWeights:
    """Weight of each domain's rows at a share of training.

    A number holds for all of training; a list of numbers lies at equal distances over it, with straight lines between:
    ``[1, 0]`` falls from 1 at the start to 0 at the end, ``[1, 1, 0, 0]`` keeps 1 for a third, falls for a third, and
    leaves the domain out for the last third.

    Args:
        domains: names of all domains.
        weights: domain name -> weight or weights, 0 or more; 1 for those not named.

    Raises:
        CrossrecError: a name is no domain's, a weight is none, or all domains weigh 0 at some time.

    Example:
        >>> DomainWeights(["a", "b"], {"a": [1, 0]}).at(0.25)
        [0.75, 1.0]
    """

    def __init__(self, domains: Sequence[str], weights: Mapping[str, float | Sequence[float]]) -> None:
        for name in weights:
            if name not in domains:
                known = ", ".join(domains)
                raise CrossrecError(
                    f"strategy.domain_weights names {name!r}, but the domains are {known}{nearest(name, list(domains))}"
                )
        self._lines = [_line(name, weights.get(name, 1.0)) for name in domains]
        for share in sorted({share for shares, _ in self._lines for share in shares}):
            if not any(self.at(share)):
                raise CrossrecError(
                    f"strategy.domain_weights leaves no domain to learn from at {share:.0%} of training: every weight "
                    "is 0"
                )

    @property
    def constant(self) -> bool:
        """Whether the weights stay as they are."""
        return all(len(set(values)) == 1 for _, values in self._lines)

    def at(self, progress: float) -> list[float]:
        """Weights of all domains at a share of training in [0, 1]."""
        return [float(np.interp(progress, shares, values)) for shares, values in self._lines]

    def of_rows(self, progress: float, domains: Tensor) -> Tensor:
        """Weights (n,) of rows of the ``domains`` (n,), indices, at a share of training."""
        return torch.tensor(self.at(progress), device=domains.device)[domains]


def _line(name: str, weight: float | Sequence[float]) -> tuple[list[float], list[float]]:
    given = list(weight) if isinstance(weight, Sequence) and not isinstance(weight, str) else [weight]
    if not given or any(not isinstance(w, (int, float)) or isinstance(w, bool) or not 0 <= w < math.inf for w in given):
        raise CrossrecError(
            f"strategy.domain_weights.{name}={weight!r} must be a number, 0 or more, or a list of such over training"
        )
    return np.linspace(0.0, 1.0, len(given)).tolist(), [float(w) for w in given]
