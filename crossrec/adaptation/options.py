"""Arguments that losses share, as types: which spaces, pairs of domains and rows are compared, when, and how much."""

from __future__ import annotations

from typing import Literal, TypedDict

from crossrec.adaptation.pairs import Pairs, Rows
from crossrec.adaptation.schedules import Schedule

Space = Literal["users", "items", "both"]
SPACES: dict[str, tuple[Literal["users", "items"], ...]] = {
    "users": ("users",),
    "items": ("items",),
    "both": ("users", "items"),
}


class Options(TypedDict, total=False):
    """Keyword arguments of every loss."""

    name: str | None
    weight: float
    schedule: Schedule | str
    space: Space


class PairedOptions(Options, total=False):
    """Keyword arguments of every :class:`PairedAdaptation`."""

    pairs: Pairs


class PairwiseOptions(PairedOptions, total=False):
    """Keyword arguments of every :class:`PairwiseAdaptation`."""

    rows: Rows


class PerDomainOptions(Options, total=False):
    """Keyword arguments of every :class:`PerDomainAdaptation`."""

    rows: Rows
