"""Softmax cross-entropy over a sample of the catalogue."""

from __future__ import annotations

import torch
from torch import Tensor

from crossrec.errors import CrossrecError
from crossrec.objectives.base import Objective, at_least, weighted_mean


class SampledSoftmax(Objective):
    """Predict the positive among itself and sampled negatives.

    L_row = -s_pos / t + log[ exp(s_pos / t) + c * sum over valid negatives j of exp(s_j / t) ], with
    c = (N - 1) / (number of valid negatives) when ``correct`` and 1 otherwise; N is the size of the domain's catalogue.
    With c the bracket is an unbiased estimate of the full partition function when the valid negatives are uniform over
    the N - 1 other items; with all of them as negatives the loss is the full softmax.

    Source: Bengio and Senecal, "Adaptive importance sampling to accelerate training of a neural probabilistic language
    model", IEEE TNN 19 (2008) (here the proposal is uniform); Jean et al., "On using very large target vocabulary for
    neural machine translation", ACL 2015. Deviation: the positive is always in the bracket, once and uncorrected. The
    correction is that of uniform sampling: set ``correct=false`` with ``negatives=popularity``. Negatives that also
    leave out the user's other training items estimate the sum without them.

    Args:
        n_negatives: sampled items: of each domain when ``shared``, of each positive otherwise.
        shared: draw once for each domain and use for all rows of the batch.
        temperature: t, in units of the score.
        correct: scale the sampled sum up to the catalogue.

    Raises:
        CrossrecError: ``n_negatives`` is below 1, ``temperature`` is not positive, or no catalogue size came with
            ``correct``.

    Example:
        >>> loss = SampledSoftmax(n_negatives=2)
        >>> round(loss.sampled(torch.zeros(1), torch.zeros(1, 2), catalogue_size=5).item(), 4) # log(1 + 4 / 2 * 2)
        1.6094
    """

    batch = "pairwise"

    def __init__(
        self, n_negatives: int = 1024, shared: bool = True, temperature: float = 1.0, correct: bool = True
    ) -> None:
        super().__init__()
        at_least("n_negatives", n_negatives, 1)
        at_least("temperature", temperature, 0, strictly=True)
        self.n_negatives = n_negatives
        self.shared = shared
        self.temperature = temperature
        self.correct = correct

    def sampled(
        self,
        positive: Tensor,
        negative: Tensor,
        *,
        mask: Tensor | None = None,
        catalogue_size: Tensor | int | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """Mean loss; arguments as in :meth:`Objective.sampled`."""
        positive, negative = positive / self.temperature, negative / self.temperature
        if self.correct:
            if catalogue_size is None:
                raise CrossrecError(
                    "sampled softmax scales its negatives up to the catalogue but was not told its size: "
                    "set objective.correct=false"
                )
            size = torch.as_tensor(catalogue_size, device=negative.device)
            count = torch.full_like(size, negative.shape[1]) if mask is None else mask.sum(1)
            scale = (size - 1).clamp_min(1).to(negative.dtype) / count.clamp_min(1).to(negative.dtype)
            negative = negative + scale.log().reshape(-1, 1)
        if mask is not None:
            negative = negative.masked_fill(~mask, float("-inf"))
        above = negative - positive.unsqueeze(1)
        return weighted_mean(torch.cat([above.new_zeros(len(above), 1), above], dim=1).logsumexp(1), weight)
