"""Softmax cross-entropy over the positives of a batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from crossrec.adaptation.numerics import unit_rows
from crossrec.errors import CrossrecError
from crossrec.objectives.base import InBatchRows, Objective, at_least, weighted_mean

SCORES = 2**24
"""Scores of a batch that are held whole; of a larger one so many at a time, and computed again on the way back."""


class InBatchSoftmax(Objective):
    """Predict the positive among the positives of all rows of the batch, of whatever domain.

    L_i = -l_ii + log[ exp(l_ii) + sum over the negatives j of row i of exp(l_ij) ], with l_ij = s_ij / t - log q_j and
    s_ij = <U_i, V_j>, with ``normalize`` the cosine of both. q_j is the share of the training rows that item j has, or
    1 without ``logq``: a popular item is a negative in many batches, and is not to be pushed down for that. A factor of
    q that all items share changes nothing.

    Negatives of row i are the positives of the other rows, repeats included, but none that is the same entity as its
    own positive, and with ``mask_history`` none of what the batch shows of the row's user, inputs and targets alike. A
    row without a negative has loss 0 and no gradient. Rows of weight 0 are negatives like any other. With several
    processes the negatives are those of the global batch, and every process computes the loss of all of its rows.

    Source: Hou et al., "Towards universal sequence representation learning for recommender systems" (UniSRec), KDD
    2022, the sequence-item contrastive task (negatives of all domains; cosines over a temperature and the masking of
    rows with the same item as in the authors' code); the correction is that of Yi et al., "Sampling-bias-corrected
    neural modeling for large corpus item recommendations", RecSys 2019. Deviations: every event of a sequence is a
    row, not its last alone; a masked row is left out of the sum, where the authors' code leaves exp(0) in it; q counts
    all training rows, where Yi et al. estimate it from the stream of batches, so under ``sampler=cycle`` it is off by a
    factor that the items of a domain share.

    Args:
        temperature: t, in units of the score.
        normalize: score by the cosine, in ranking too.
        logq: correct for the items' popularity.
        mask_history: see above.

    Raises:
        CrossrecError: ``temperature`` is not positive, or ``logq`` was not told the items' rows.

    Example:
        >>> loss = InBatchSoftmax(temperature=1.0, logq=False)
        >>> ids = torch.arange(2)
        >>> rows = InBatchRows(torch.eye(2), torch.eye(2), ids, ids, ids, torch.stack([ids, ids], 1))
        >>> round(loss.in_batch(rows).item(), 4)  # log(e + 1) - 1
        0.3133
    """

    batch = "pairwise"
    batchwise = True
    log_popularity: Tensor

    def __init__(
        self,
        temperature: float = 0.07,
        normalize: bool = True,
        logq: bool = True,
        mask_history: bool = False,
    ) -> None:
        super().__init__()
        at_least("temperature", temperature, 0, strictly=True)
        self.temperature = temperature
        self.normalize = normalize
        self.logq = logq
        self.mask_history = self.reads_events = mask_history
        self.register_buffer("log_popularity", torch.zeros(0), persistent=False)

    def prepare(self, counts: Tensor) -> None:
        """Take log q from the training rows of every item, ``counts`` (n_items,)."""
        rows = counts.clamp_min(1).double()
        self.log_popularity = (rows / rows.sum()).log().float()

    def scored(self, vectors: Tensor) -> Tensor:
        """Return ``vectors`` (n, f), of length 1 with ``normalize``."""
        return unit_rows(_wide(vectors)) if self.normalize else vectors

    def in_batch(self, rows: InBatchRows, *, weight: Tensor | None = None) -> Tensor:
        """Mean loss; arguments as in :meth:`Objective.in_batch`."""
        offset = None
        if self.logq:
            if not len(self.log_popularity):
                raise CrossrecError(
                    "in-batch softmax corrects for the items' popularity but was not told it: set objective.logq=false"
                )
            offset = self.log_popularity[rows.ids]
        seen = _seen(rows) if self.mask_history else None

        def negative(here: slice) -> Tensor:
            others = rows.entities[here].unsqueeze(1) != rows.entities
            return others if seen is None else others & ~seen(here)

        losses = contrast(rows.users, rows.items, negative, temperature=self.temperature, offset=offset)
        return weighted_mean(losses, weight)


def contrast(
    queries: Tensor,
    keys: Tensor,
    negative: Callable[[slice], Tensor],
    *,
    temperature: float,
    offset: Tensor | None = None,
) -> Tensor:
    """Cross-entropy (m,) of each query's own key among the keys, with scores <query, key> / temperature - offset.

    Args:
        queries: (m, f).
        keys: (m, f); key i is query i's own, and always among those it is compared with.
        negative: rows (a slice of k) -> (k, m) bool, the other keys that these queries are compared with.
        temperature: in units of the inner product.
        offset: (m,) of each key; None is 0.
    """
    with torch.autocast(queries.device.type, enabled=False):
        queries, keys = _wide(queries) / temperature, _wide(keys)
        one = partial(_losses, queries, keys, negative, offset)
        if queries.shape[0] * keys.shape[0] <= SCORES:
            return one(slice(None))
        size = max(SCORES // len(keys), 1)
        parts = [slice(start, start + size) for start in range(0, len(queries), size)]
        return torch.cat([checkpoint(one, part, use_reentrant=False, preserve_rng_state=False) for part in parts])


def _losses(
    queries: Tensor, keys: Tensor, negative: Callable[[slice], Tensor], offset: Tensor | None, here: slice
) -> Tensor:
    scores = queries[here] @ keys.T
    if offset is not None:
        scores = scores - offset
    own = torch.arange(len(keys), device=keys.device)[here].unsqueeze(1)
    compared = negative(here).scatter(1, own, True)
    return scores.masked_fill(~compared, float("-inf")).logsumexp(1) - scores.gather(1, own).squeeze(1)


def _seen(rows: InBatchRows) -> Callable[[slice], Tensor]:
    """Which columns of the batch each row's user is seen with: rows (a slice of k) -> (k, m) bool."""
    users, row_user = torch.unique(rows.owners, return_inverse=True)
    entities, row_entity = torch.unique(rows.entities, return_inverse=True)
    assert rows.events is not None
    events = rows.events[torch.isin(rows.events[:, 1], entities) & torch.isin(rows.events[:, 0], users)]
    table = torch.zeros(len(users), len(entities), dtype=torch.bool, device=users.device)
    if len(events):
        owners, what = events.t().contiguous()
        table[torch.searchsorted(users, owners), torch.searchsorted(entities, what)] = True
    return lambda here: table[row_user[here]][:, row_entity]


def _wide(vectors: Tensor) -> Tensor:
    """Return vectors in float32 at least."""
    return vectors.to(torch.promote_types(vectors.dtype, torch.float32))
