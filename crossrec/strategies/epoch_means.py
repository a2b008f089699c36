"""Means over the steps of an epoch that survive a checkpoint in its middle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


class EpochMeans:
    """Running means of named scalars, kept on their device so that no step waits for a number.

    A scalar's mean is over the steps that had it.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add one step's scalars."""
        for key, value in values.items():
            value = value.detach()
            self._sums[key] = self._sums.get(key, torch.zeros((), device=value.device)).to(value.device) + value
            self._counts[key] = self._counts.get(key, 0) + 1

    def average(self, mean: Callable[[Tensor], Any]) -> None:
        """Replace every sum by its ``mean`` over processes, which must all call this, after the same steps."""
        self._sums = {key: mean(value.clone()) for key, value in sorted(self._sums.items())}

    def take(self) -> dict[str, Tensor]:
        """Return the means and start the next epoch."""
        means = {key: value / self._counts[key] for key, value in self._sums.items()}
        self._sums, self._counts = {}, {}
        return means

    def state_dict(self) -> dict[str, Any]:
        """Return sums and the number of their terms."""
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint's sums."""
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])
