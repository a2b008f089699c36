"""Search spaces of a study's rows: ``search:`` of a study file, read and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crossrec.errors import CrossrecError
from crossrec.suggestions import nearest

KINDS = ("log", "float", "int", "choice")
FORMS = "{log: [low, high]}, {float: [low, high], step: s}, {int: [low, high], step: s} or {choice: [a, b]}"


@dataclass(frozen=True)
class Dimension:
    """One searched config key.

    Attributes:
        key: of the config, such as ``optimizer.lr``.
        kind: ``log`` (log-uniform float), ``float`` (uniform), ``int`` (uniform) or ``choice``.
        low: least value, included; of a number.
        high: greatest value, included; of a number.
        step: distance of neighbouring values; None for a continuous float, 1 for an int unless told.
        choices: values as words of a command line; of a choice.
    """

    key: str
    kind: str
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    choices: tuple[str, ...] = ()

    def distribution(self) -> Any:
        """Return the Optuna distribution; choices are their words."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.kind == "choice":
            return CategoricalDistribution(self.choices)
        if self.kind == "int":
            return IntDistribution(int(self.low), int(self.high), step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.kind == "log", step=self.step)

    def word(self, value: float | int | str) -> str:
        """Return the override that sets ``value``, exactly.

        Multiples of a step lose their binary dust: .3, not .30000000000000004.
        """
        if self.kind == "choice":
            return f"{self.key}={value}"
        if self.kind == "int":
            return f"{self.key}={int(value)}"
        return f"{self.key}={float(f'{value:.12g}') if self.step else float(value)!r}"

    def example(self, index: int) -> str:
        """Return an override to compose: choice ``index`` (from its start again after the last), or the low end."""
        return self.word(self.choices[index % len(self.choices)] if self.choices else self.low)


def read_space(search: Mapping[str, Any], where: str) -> tuple[Dimension, ...]:
    """Check a ``search:`` mapping.

    Args:
        search: config key -> one of ``{log: [low, high]}``, ``{float: [low, high], step: s}``,
            ``{int: [low, high], step: s}`` or ``{choice: [a, b]}``. YAML reads 1e-4 as text; it is taken as a number.
        where: file and row, for errors.

    Returns:
        The dimensions, in their order.

    Raises:
        CrossrecError: an unknown kind, an empty or reversed range, a log range that is not above 0, a step that does
            not divide its range, a choice named twice.
    """
    return tuple(_dimension(str(key), node, f"{where}.search.{key}") for key, node in search.items())


def examples(space: Sequence[Dimension]) -> list[list[str]]:
    """Return overrides that try every choice of every dimension at least once, other dimensions at some value."""
    return [[d.example(i) for d in space] for i in range(max([1, *(len(d.choices) for d in space)]))]


def _dimension(key: str, node: Any, where: str) -> Dimension:
    kinds = [k for k in node if k != "step"] if isinstance(node, Mapping) else []
    if len(kinds) != 1:
        raise CrossrecError(f"{where} must be one of {FORMS}, not {node!r}")
    kind = str(kinds[0])
    if kind not in KINDS:
        raise CrossrecError(f"{where}: no kind {kind!r}{nearest(kind, KINDS)}")
    if "step" in node and kind not in ("float", "int"):
        raise CrossrecError(f"{where}: step is of float and int, not of {kind}")
    values = node[kinds[0]]
    if kind == "choice":
        return Dimension(key, kind, choices=_choices(values, where))
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != 2:
        raise CrossrecError(f"{where}.{kind} must be [low, high], not {values!r}")
    low, high = (_number(v, kind, f"{where}.{kind}") for v in values)
    if kind == "log" and low <= 0:
        raise CrossrecError(f"{where}.log begins at {low:g}; a log range must be above 0")
    if not low < high:
        raise CrossrecError(f"{where}.{kind} is [{low:g}, {high:g}]; low must be below high")
    step = _number(node["step"], kind, f"{where}.step") if "step" in node else 1.0 if kind == "int" else None
    if step is not None:
        if step <= 0:
            raise CrossrecError(f"{where}.step={step:g} must be above 0")
        times = (high - low) / step
        if abs(times - round(times)) > 1e-9 * max(1.0, times) or round(times) < 1:
            raise CrossrecError(f"{where}.step={step:g} does not divide the range [{low:g}, {high:g}]")
    return Dimension(key, kind, low, high, step)


def _number(value: Any, kind: str, where: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise CrossrecError(f"{where}: {value!r} is not a number")
    if kind == "int" and number != int(number):
        raise CrossrecError(f"{where}: {value!r} is not a whole number")
    return number


def _choices(values: Any, where: str) -> tuple[str, ...]:
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise CrossrecError(f"{where}.choice must be a list of values, not {values!r}")
    words = tuple(word_of(v) for v in values)
    for word in words:
        if words.count(word) > 1:
            raise CrossrecError(f"{where}.choice has {word} twice")
    return words


def word_of(value: Any) -> str:
    """Return a value of a study file as it stands on a command line: ``null``, ``true``, ``[a,b]``."""
    if isinstance(value, list):
        return f"[{','.join(word_of(v) for v in value)}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{k}:{word_of(v)}' for k, v in value.items())}}}"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
