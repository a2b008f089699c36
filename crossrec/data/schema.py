"""The corpus: every domain's users, items and interactions in one global id space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from crossrec.errors import CrossrecError

INTERACTIONS = {"user": pl.Int64, "item": pl.Int64, "rating": pl.Float32, "time": pl.Int64}
"""Columns of :attr:`Corpus.interactions`; rows are sorted by user, then time, then order in the file."""

TEXTS = ("title", "brand", "category", "description", "text")
"""Columns of items that hold words. ``title`` is an item's name, ``text`` all that is to be read of it."""

MODALITIES = (*TEXTS, "image", "audio")
"""Columns of items that say what an item is; ``image`` and ``audio`` are paths."""

USER_FIELDS = ("age", "gender", "occupation", "text")
"""Columns of users that say in words who a user is; ``text`` is all that is to be read of them."""

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Domain:
    """One domain; its items are the contiguous range ``start..stop`` of global item ids."""

    name: str
    index: int
    start: int
    stop: int

    @property
    def n_items(self) -> int:
        """Size of the domain's catalogue."""
        return self.stop - self.start


@dataclass(frozen=True)
class RawDomain:
    """What a source reads for one domain, before ids are assigned.

    Args:
        name: the domain's name.
        interactions: columns ``user: str, item: str, rating: f32, time: i64``, in file order. A user name that occurs
            in two domains is the same person.
        items: columns ``item: str`` and any of :data:`MODALITIES` (str, null where missing) and ``entity`` (str: equal
            values in two domains are one thing); one row an item. Items without a row have no modality.
        users: columns ``user: str`` and any of :data:`USER_FIELDS` (str, null where missing); one row a user. None
            where nothing is told of them.
        dropped: rows that were left out of ``items`` and ``users``, counted by reason.
    """

    name: str
    interactions: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Corpus:
    """N domains in one global id space.

    Args:
        domains: in order of their item ranges.
        interactions: see :data:`INTERACTIONS`.
        items: one row per global item id, sorted: ``item: i64, domain: i64, name: str, entity: i64`` and those of
            :data:`MODALITIES` that the source has (str, null where missing: a mask, never a fake value).
        users: one row per global user id, sorted: ``user: i64, name: str`` and those of :data:`USER_FIELDS` that the
            source has (str, null where missing).
        timed: whether ``time`` is an instant that can be compared between users (a temporal split needs it); otherwise
            it is only the order of events of one user, or nothing at all when ``ordered`` is false.
        ordered: whether the order of one user's events means anything (leave-one-out and histories need it).
        fixed: for sources whose paper ships its split: i8 per interaction, 0 train, 1 valid, 2 test, -1 unused.
        provenance: source name, options, file hashes, licence note, counts of dropped rows: plain JSON values.
    """

    domains: tuple[Domain, ...]
    interactions: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    timed: bool = True
    ordered: bool = True
    fixed: npt.NDArray[np.int8] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected = 0
        for index, domain in enumerate(self.domains):
            if domain.index != index or domain.start != expected or domain.stop < domain.start:
                raise CrossrecError(
                    f"domain {domain.name!r} is not the contiguous item range that follows its predecessor"
                )
            expected = domain.stop
        if expected != self.items.height:
            raise CrossrecError(f"the domains cover {expected} items but the item table has {self.items.height}")
        for name, kind in INTERACTIONS.items():
            if self.interactions.schema.get(name) != kind:
                raise CrossrecError(f"interactions need a column {name!r} of type {kind}")
        if self.fixed is not None and len(self.fixed) != self.interactions.height:
            raise CrossrecError("the fixed split has not one label per interaction")

    @property
    def n_items(self) -> int:
        """Number of items of all domains."""
        return self.items.height

    @property
    def n_users(self) -> int:
        """Number of users of all domains."""
        return self.users.height

    @property
    def fingerprint(self) -> str:
        """Content address given by the preparation (empty for a corpus built in memory)."""
        return str(self.provenance.get("fingerprint", ""))

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modality columns that exist."""
        return tuple(c for c in MODALITIES if c in self.items.columns)

    def domain(self, name: str) -> Domain:
        """Return the domain called ``name``; a wrong name is an error that lists the right ones."""
        for domain in self.domains:
            if domain.name == name:
                return domain
        raise CrossrecError(f"no domain {name!r} in this corpus; it has {', '.join(d.name for d in self.domains)}")

    @cached_property
    def item_domain(self) -> Ids:
        """Domain index of every item, shape (n_items,)."""
        return np.repeat(np.arange(len(self.domains)), [d.n_items for d in self.domains]).astype(np.int64)

    @cached_property
    def membership(self) -> npt.NDArray[np.bool_]:
        """Shape (n_users, n_domains): which user has a row in which domain."""
        member = np.zeros((self.n_users, len(self.domains)), dtype=np.bool_)
        users = self.interactions["user"].to_numpy()
        member[users, self.item_domain[self.interactions["item"].to_numpy()]] = True
        return member

    def overlap(self, a: str, b: str) -> Ids:
        """Return the ids of the users who have rows in both domains."""
        member = self.membership
        return np.flatnonzero(member[:, self.domain(a).index] & member[:, self.domain(b).index]).astype(np.int64)
