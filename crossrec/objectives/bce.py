"""Binary cross-entropy on labelled or implicit feedback."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from crossrec.objectives.base import Objective, at_least, weighted_mean


class BCE(Objective):
    """Classify positives against negatives: sampled, or rated low.

    L = mean over all pairs of -[y log sigmoid(s) + (1 - y) log(1 - sigmoid(s))]. Both call forms are this mean:
    :meth:`sampled` gives what :meth:`labelled` gives on the same pairs written as rows.

    Source: He et al., "Neural collaborative filtering", WWW 2017, section 3.1.1; for sequences Kang and McAuley,
    "Self-attentive sequential recommendation", ICDM 2018, the objective of its network training. Deviation: both sum
    where this is a mean over pairs.

    Args:
        n_negatives: sampled negatives of each positive; 0 where the data label negatives.

    Raises:
        CrossrecError: ``n_negatives`` is negative.

    Example:
        >>> round(BCE().labelled(torch.tensor([0.0, 0.0]), torch.tensor([1.0, 0.0])).item(), 4)
        0.6931
    """

    batch = "pointwise"

    def __init__(self, n_negatives: int = 1) -> None:
        super().__init__()
        at_least("n_negatives", n_negatives, 0)
        self.n_negatives = n_negatives

    def labelled(self, logits: Tensor, labels: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """Mean loss; arguments as in :meth:`Objective.labelled`."""
        losses = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none")
        return weighted_mean(losses, weight)

    def sampled(
        self,
        positive: Tensor,
        negative: Tensor,
        *,
        mask: Tensor | None = None,
        catalogue_size: Tensor | int | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Mean loss; arguments as in :meth:`Objective.sampled`. The catalogue's size has no place in the formula."""
        below = F.softplus(negative)
        valid = torch.ones_like(below) if mask is None else mask.to(below.dtype)
        pairs = 1.0 + valid.sum(1)
        rows = (F.softplus(-positive) + (below * valid).sum(1)) / pairs
        return weighted_mean(rows, pairs if weight is None else pairs * weight)
