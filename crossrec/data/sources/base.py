"""What a source is: raw files of one data set to domains of named users, items and interactions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from crossrec.data.schema import MODALITIES, USER_FIELDS, RawDomain
from crossrec.data.sources.table import SECOND, cleaned, unlike_first

RAW_INTERACTIONS = {"user": pl.String, "item": pl.String, "rating": pl.Float32, "time": pl.Int64}
"""Columns of :attr:`RawDomain.interactions`, in this order."""

EXTRAS = {"split": pl.Int8, "order": pl.Int64}
"""Columns an interaction frame may have besides; see :class:`RawSource`."""


@dataclass(frozen=True)
class RawSource:
    """Everything a source read.

    Args:
        domains: one entry a domain. ``interactions`` may have two more columns: ``split: i8`` (0 train, 1 valid,
            2 test, -1 unused) where the data set ships its own split, and ``order: i64``, which orders a
            user's events of equal time in different domains.
        dropped: rows that were left out while reading, counted by reason, besides what the domains count.
    """

    domains: list[RawDomain]
    dropped: Mapping[str, int] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Return all rows that were left out, by reason."""
        total: Counter[str] = Counter()
        for dropped in (self.dropped, *(domain.dropped for domain in self.domains)):
            total.update(dropped)
        return dict(total)


class Source(ABC):
    """Reads one data set.

    An explicit rating keeps its value; an event without one has rating 1. ``title`` is an item's name and ``text`` what
    a language model should read about it: the title again where nothing more is known. ``brand``, ``category`` (names
    joined by commas) and ``description`` are there by themselves, too, where the files tell them apart.

    Attributes:
        name: short name, used for the prepared corpus' folder.
        licence: terms of use, where the data come from, what to cite.
        timed: whether ``time`` is an instant in seconds that can be compared between users and domains.
        ordered: whether ``time`` orders the events of one user.
    """

    name: str
    licence: str
    timed: bool = True
    ordered: bool = True

    @abstractmethod
    def files(self) -> list[Path]:
        """Return the raw files :meth:`read` reads, fetching first what has to be fetched.

        Raises:
            CrossrecError: a file is missing and cannot be fetched.
        """

    @abstractmethod
    def read(self) -> RawSource:
        """Read all domains.

        Raises:
            CrossrecError: a file is missing, damaged or not of the format; the message names file and line.
        """

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return the JSON values which, with the files' bytes, define what is read (no paths)."""

    def domain_names(self) -> Sequence[str] | None:
        """Return the domains' names, in the order of :meth:`read`; None where only the files tell them.

        No file is read: a study's targets are checked by it before a corpus is prepared.
        """
        return None


def raw_domain(
    name: str, interactions: pl.DataFrame, items: pl.DataFrame | None = None, users: pl.DataFrame | None = None
) -> RawDomain:
    """Bring a domain's frames to the columns and types of :class:`RawDomain`.

    Args:
        name: the domain's name.
        interactions: columns ``user, item`` and any of ``rating`` (default 1), ``time`` (default 0),
            ``split``, ``order``.
        items: columns ``item``, any of :data:`MODALITIES` and ``entity``; the first row of an item is taken, and later
            ones that say something else are counted in ``dropped``. Without ``text`` the title is the text. Empty
            strings become null.
        users: columns ``user`` and any of :data:`USER_FIELDS`; the same of a user's rows.
    """
    dropped: dict[str, int] = {}
    defaults = {"rating": pl.lit(1.0), "time": pl.lit(0)}
    filled = interactions.with_columns([v.alias(k) for k, v in defaults.items() if k not in interactions.columns])
    columns = [pl.col(k).cast(v) for k, v in RAW_INTERACTIONS.items()]
    columns += [pl.col(k).cast(v) for k, v in EXTRAS.items() if k in interactions.columns]
    if items is None:
        items = pl.DataFrame(schema={"item": pl.String})
    items = _words(items, "item", (*MODALITIES, "entity"), dropped)
    if "title" in items.columns and "text" not in items.columns:
        items = items.with_columns(text=pl.col("title"))
    users = None if users is None else _words(users, "user", USER_FIELDS, dropped)
    return RawDomain(name, filled.select(columns), items, users, dropped)


def _words(table: pl.DataFrame, key: str, fields: Sequence[str], dropped: dict[str, int]) -> pl.DataFrame:
    """The first row of every ``key``, with those of ``fields`` that there are as strings, null where empty.

    Later rows that differ from the first are counted in ``dropped``; equal ones tell nothing, and are not.
    """
    others = [c for c in fields if c in table.columns]
    table = table.select(key, *others).cast(pl.String)
    if not others:
        return table.unique(key, keep="first", maintain_order=True)
    table = table.with_columns(cleaned(others))
    first = table.unique(key, keep="first", maintain_order=True)
    if first.height < table.height and (count := int(table.select(unlike_first(key, others).sum()).item())):
        dropped[SECOND.format(key)] = count
    return first
