"""Items a second of two text models, in one process on the same texts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import torch

from crossrec.compression.base import batches
from crossrec.encoders.text_model import TextModel


def speeds(models: Sequence[TextModel], texts: Sequence[str], batch_size: int, rounds: int) -> list[float]:
    """Time models in turn, after a batch that does not count, and take the median of each.

    Args:
        models: each reads all texts in every round; the first of a round is the last of the next.
        texts: longest first, as the cache has them.
        batch_size: texts of one batch.
        rounds: how often.

    Returns:
        Texts a second of each model.
    """
    spent: list[list[float]] = [[] for _ in models]
    for model in models:
        model.encode(texts[:batch_size])
    for number in range(rounds):
        for index in range(len(models))[:: -1 if number % 2 else 1]:
            started = time.perf_counter()
            for part in batches(texts, batch_size):
                models[index].encode(part)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            spent[index].append(time.perf_counter() - started)
    return [len(texts) / statistics.median(seconds) for seconds in spent]
