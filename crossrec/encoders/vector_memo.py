"""Vectors of items that are encoded already."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class VectorMemo:
    """Encode every item once, however often and in however many calls it is asked for.

    Args:
        n_items: ids are below it.
        device: of the ids and the vectors.
    """

    def __init__(self, n_items: int, device: torch.device) -> None:
        self._places = torch.full((n_items,), -1, device=device)
        self._vectors: Tensor | None = None

    def knows(self, item: int) -> bool:
        """Whether ``item`` is encoded already."""
        return bool(self._places[item] >= 0)

    def __call__(self, items: Tensor, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """Vectors (..., f) of ``items`` (...), at least one; ``encode`` takes new distinct ids (n,) to (n, f)."""
        asked = torch.unique(items)
        new = asked[self._places[asked] < 0]
        if len(new):
            made, known = encode(new), 0 if self._vectors is None else len(self._vectors)
            self._places[new] = torch.arange(known, known + len(new), device=new.device)
            self._vectors = made if self._vectors is None else torch.cat([self._vectors, made])
        assert self._vectors is not None
        return self._vectors[self._places[items]]
