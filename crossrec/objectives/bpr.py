"""Bayesian personalised ranking."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from crossrec.objectives.base import Objective, at_least, weighted_mean


class BPR(Objective):
    """Rank the positive above sampled negatives.

    L = mean over rows of mean over the row's valid negatives j of -log sigmoid(s_pos - s_j). A row without a valid
    negative takes no part in the mean.

    Source: Rendle et al., "BPR: Bayesian personalized ranking from implicit feedback", UAI 2009, section 4 (BPR-Opt).
    Deviation: regularisation is the optimizer's weight decay.

    Args:
        n_negatives: negatives of each positive.

    Raises:
        CrossrecError: ``n_negatives`` is below 1.

    Example:
        >>> import torch
        >>> round(BPR().sampled(torch.tensor([0.0]), torch.tensor([[0.0]])).item(), 4)
        0.6931
    """

    batch = "pairwise"

    def __init__(self, n_negatives: int = 1) -> None:
        super().__init__()
        at_least("n_negatives", n_negatives, 1)
        self.n_negatives = n_negatives

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
        losses = F.softplus(negative - positive.unsqueeze(1))
        if mask is None:
            if not losses.shape[1]:
                return (positive * 0.0).sum()
            return weighted_mean(losses.mean(1), weight)
        count = mask.sum(1)
        rows = (losses * mask).sum(1) / count.clamp_min(1)
        has = (count > 0).to(losses.dtype)
        return weighted_mean(rows, has if weight is None else has * weight)
