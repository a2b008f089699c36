"""How narrow a cone the vectors of a space lie in."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize

from crossrec.errors import CrossrecError


def mean_cosine(vectors: Tensor) -> float:
    """Mean cosine of two different rows: 0 where directions are spread evenly, 1 where all are one.

    The expected value over random pairs, over all of them: with u_i the unit rows, (|sum u_i|^2 - sum |u_i|^2) /
    (n (n - 1)). A zero row has cosine 0 with every other.

    Source: Ethayarajh, "How contextual are contextualized word representations?", EMNLP 2019: the average
    cosine of randomly sampled words.

    Args:
        vectors: (n, w) with n >= 2.

    Raises:
        CrossrecError: fewer than two rows.

    >>> import torch
    >>> mean_cosine(torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]]))
    0.3333333333333333
    """
    n = len(vectors)
    if n < 2:
        raise CrossrecError(f"the cosine of two rows needs two, there are {n}")
    unit = normalize(vectors.double(), dim=1)
    return float((unit.sum(0).square().sum() - unit.square().sum()) / (n * (n - 1)))
