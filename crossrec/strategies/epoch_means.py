"""Means over the steps of an epoch that survive a checkpoint in its middle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class EpochMeans:
    """Running means of named scalars, kept on their device so that no step waits for a number."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = 0

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add one step's scalars."""
        self._steps += 1
        for key, value in values.items():
            value = value.detach()
            self._sums[key] = self._sums.get(key, torch.zeros((), device=value.device)).to(value.device) + value

    def take(self) -> dict[str, Tensor]:
        """Return the means and start the next epoch."""
        means = {key: value / self._steps for key, value in self._sums.items()}
        self._sums, self._steps = {}, 0
        return means

    def state_dict(self) -> dict[str, Any]:
        """Return sums and steps."""
        return {"sums": dict(self._sums), "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint's sums and steps."""
        self._sums, self._steps = dict(state["sums"]), int(state["steps"])
