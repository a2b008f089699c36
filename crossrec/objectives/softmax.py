"""Softmax cross-entropy over a domain's whole catalogue."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from crossrec.objectives.base import Objective, at_least


class FullSoftmax(Objective):
    """Predict the positive among all items of its domain.

    L_row = -s_pos / t + log sum over the domain's items j of exp(s_j / t).

    Source: Hidasi et al., "Session-based recommendations with recurrent neural networks", ICLR 2016 (cross-entropy
    variant); Klenitskiy and Vasilev, "Turning dross into gold loss", RecSys 2023, eq. (3).

    Args:
        temperature: t, in units of the score.

    Raises:
        CrossrecError: ``temperature`` is not positive.

    Example:
        >>> import torch
        >>> [round(x, 4) for x in FullSoftmax().catalogue(torch.zeros(1, 4), torch.tensor([2])).tolist()]
        [1.3863]
    """

    batch = "pairwise"
    full = True

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        at_least("temperature", temperature, 0, strictly=True)
        self.temperature = temperature

    def catalogue(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of each row; arguments as in :meth:`Objective.catalogue`."""
        return F.cross_entropy(logits / self.temperature, target, reduction="none")
