"""Minimum class confusion."""

from __future__ import annotations

from torch import Tensor

from crossrec.adaptation.numerics import entropies
from crossrec.adaptation.prediction_entropy import OnPredictions


class MinimumClassConfusion(OnPredictions):
    """How often a domain's rows are torn between two items of the batch.

    With p (n, c) the predictions and H their entropies (see :class:`OnPredictions`):

    - certainty: w_i = n (1 + exp(-H(p_i))) / sum_i' (1 + exp(-H(p_i'))), without gradient;
    - class correlation: C_jk = sum_i w_i p_ij p_ik;
    - category normalisation: N_jk = C_jk / sum_k' C_jk';
    - L = 1/c sum_j sum_(k != j) N_jk, from 0, where every row is sure of one item and every item has such a row, to
      1 - 1/c, where all rows predict alike. 0 where the batch holds one item.

    As predictions add up to 1, the inner sum is that over i of w_i p_ij (1 - p_ij) / sum_i' w_i' p_i'j, which is how it
    is computed, from logarithms: an item that hardly any row predicts has its weights all the same.

    Source: Jin, Wang, Long and Wang, "Minimum class confusion for versatile domain adaptation", ECCV 2020, its
    probability rescaling, class correlation, uncertainty reweighting, category normalisation and loss L_MCC; the
    weights have no gradient, as in the authors' code. Deviation: recommendation has no classes; the items of the batch
    stand for them, so there are nearly as many as rows.

    Args:
        options: see :class:`OnPredictions`; the authors' code has ``temperature=2.5``, of a classifier's logits.

    Example:
        >>> import torch
        >>> round(MinimumClassConfusion().loss(torch.tensor([[0.5, 0.5], [0.5, 0.5]]).log()).item(), 4)
        0.5
    """

    def loss(self, logs: Tensor) -> Tensor:
        """Class confusion of the predictions ``logs`` (n, c)."""
        certainty = (1.0 + (-entropies(logs.detach())).exp()).log()  # n and the sum over rows cancel
        shares = (certainty.unsqueeze(1) + logs).softmax(0)
        return (shares * -logs.expm1()).sum(0).mean()
