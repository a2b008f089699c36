"""How well scores classify labelled pairs: accuracy, AUC, log loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from crossrec.data.batches import PAD

METRICS = ("label_auc", "label_majority", "label_accuracy", "label_log_loss")
"""All metrics of labelled pairs by their name in results."""


def labelled_pairs(scores: Tensor, positives: Tensor, negatives: Tensor) -> Tensor:
    """Score and label of every labelled pair of some queries.

    Args:
        scores: (q, n_items) of the whole catalogue.
        positives: (q, r) columns, padded with PAD.
        negatives: (q, s) columns, padded with PAD.

    Returns:
        (m, 2) float64: scores, and 1 for a positive or 0 for a negative.
    """
    columns = torch.cat([positives, negatives], 1)
    labels = torch.zeros_like(columns)
    labels[:, : positives.shape[1]] = 1
    there = columns != PAD
    return torch.stack([scores.gather(1, columns.clamp_min(0))[there].double(), labels[there].double()], 1)


def as_many(candidates: Tensor, positives: Tensor) -> Tensor:
    """The first candidates (q, c) of each query, as many as it has ``positives`` (q, r); PAD in place of the others."""
    wanted = (positives != PAD).sum(1, keepdim=True)
    return candidates.masked_fill(torch.arange(candidates.shape[1], device=candidates.device) >= wanted, PAD)


def evaluate(pairs: Tensor, logits: bool) -> dict[str, Tensor]:
    """Metrics of labelled pairs, by name.

    ``label_auc``: share of all (positive, negative) pairs in the right order, ties half; 0.5 where there is no pair.
    ``label_majority``: the accuracy of always giving the more frequent label. ``label_accuracy``: share of pairs whose
    score is on the right side of 0; a score of 0 is half right. ``label_log_loss``: mean of
    -[y log sigmoid(s) + (1 - y) log(1 - sigmoid(s))].

    Args:
        pairs: (m, 2) from :func:`labelled_pairs`, m at least 1.
        logits: whether scores are log-odds; else accuracy and log loss are left out.
    """
    scores, labels = pairs.double().unbind(1)
    share = labels.mean()
    made = {"label_auc": _auc(scores, labels > 0), "label_majority": torch.maximum(share, 1 - share)}
    if logits:
        right = torch.where(scores == 0, 0.5, ((scores > 0) == (labels > 0)).double())
        made["label_accuracy"] = right.mean()
        made["label_log_loss"] = F.binary_cross_entropy_with_logits(scores, labels)
    return made


def _auc(scores: Tensor, positive: Tensor) -> Tensor:
    wanted, others = scores[positive], scores[~positive].sort().values
    if not len(wanted) or not len(others):
        return scores.new_tensor(0.5)
    below = torch.searchsorted(others, wanted) + torch.searchsorted(others, wanted, right=True)
    return below.double().mean() / (2 * len(others))
