"""How a weight grows with training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from crossrec.errors import CrossrecError

Schedule = Callable[[float], float]
"""A coefficient from the share of training that is spent, in [0, 1]."""


@dataclass(frozen=True)
class Constant:
    """1 at all times."""

    def __call__(self, progress: float) -> float:
        """Coefficient at ``progress``."""
        return 1.0


@dataclass(frozen=True)
class LinearRamp:
    """From 0 at the start to 1 at ``until``, then 1.

    Args:
        until: share of training, in (0, 1].

    Raises:
        CrossrecError: ``until`` is no such share.

    Example:
        >>> LinearRamp(until=0.5)(0.25)
        0.5
    """

    until: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.until <= 1:
            raise CrossrecError(f"a linear schedule's until={self.until} must be a share of training, more than 0 to 1")

    def __call__(self, progress: float) -> float:
        """Coefficient at ``progress``."""
        return min(progress / self.until, 1.0)


@dataclass(frozen=True)
class DannRamp:
    """2 / (1 + exp(-gamma p)) - 1, from 0 towards 1.

    Source: Ganin et al., "Domain-adversarial training of neural networks", JMLR 17 (2016), lambda_p (gamma = 10).

    Args:
        gamma: steepness, positive.

    Raises:
        CrossrecError: ``gamma`` is not positive.
    """

    gamma: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.gamma < math.inf:
            raise CrossrecError(f"a DANN schedule's gamma={self.gamma} must be positive")

    def __call__(self, progress: float) -> float:
        """Coefficient at ``progress``."""
        return 2.0 / (1.0 + math.exp(-self.gamma * progress)) - 1.0


@dataclass(frozen=True)
class Delayed:
    """0 before ``start``; ``then``, with what is left of training as its whole, from there on.

    Args:
        start: share of training, in [0, 1).
        then: the schedule that follows, or its name.

    Raises:
        CrossrecError: ``start`` is no such share, or ``then`` no schedule.

    Example:
        >>> Delayed(start=0.5, then=LinearRamp())(0.75)
        0.5
    """

    start: float = 0.1
    then: Schedule | str = field(default_factory=Constant)

    def __post_init__(self) -> None:
        if not 0 <= self.start < 1:
            raise CrossrecError(
                f"a delayed schedule's start={self.start} must be a share of training, from 0 to below 1"
            )
        object.__setattr__(self, "then", schedule_of(self.then))  # a frozen dataclass sets its fields so

    def __call__(self, progress: float) -> float:
        """Coefficient at ``progress``."""
        assert not isinstance(self.then, str)  # __post_init__ has found the schedule
        return 0.0 if progress < self.start else self.then((progress - self.start) / (1.0 - self.start))


NAMED: dict[str, Callable[[], Schedule]] = {
    "constant": Constant,
    "linear": LinearRamp,
    "dann": DannRamp,
    "delayed": Delayed,
}


def schedule_of(schedule: Schedule | str) -> Schedule:
    """Return the schedule called ``constant, linear, dann`` or ``delayed`` with its defaults, or the schedule given.

    Raises:
        CrossrecError: no schedule has that name.
    """
    if not isinstance(schedule, str):
        return schedule
    if schedule not in NAMED:
        raise CrossrecError(f"no adaptation schedule {schedule!r}: choose {', '.join(NAMED)}, or give a _target_")
    return NAMED[schedule]()
