"""Which of a training step's values stopped being a number, and when."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


class FiniteValues:
    """How long each of some named scalars was finite, kept on their device so that no step waits for a number."""

    def __init__(self) -> None:
        self._steps = 0
        self._until: dict[str, Tensor | int] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add one step's scalars, always of the same names."""
        for name, value in values.items():
            until = self._until.get(name, 0)
            self._until[name] = until + (value.detach().isfinite() & (until == self._steps))
        self._steps += 1

    def first_broken(self) -> str | None:
        """Name of the value that was NaN or infinite first, of several the first in order; None if all are finite."""
        until = {name: int(steps) for name, steps in self._until.items()}
        broken = [name for name, steps in until.items() if steps < self._steps]
        return min(broken, key=lambda name: until[name], default=None)
