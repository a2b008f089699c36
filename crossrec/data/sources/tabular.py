"""Your own CSV, TSV or Parquet files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl

from crossrec.data.schema import MODALITIES, USER_FIELDS
from crossrec.data.sources.base import RawSource, Source, raw_domain
from crossrec.data.sources.reading import existing
from crossrec.data.sources.table import BadRows, Rejects, need, one_row_each, read_table, to_names, to_ratings, to_times
from crossrec.errors import CrossrecError

_COLUMNS = ("user", "item", "rating", "time")
_ITEM_COLUMNS = ("item", *MODALITIES, "entity")
_USER_COLUMNS = ("user", *USER_FIELDS)
_TABLES = ("interactions", "items", "users")


class Tabular(Source):
    """One interaction table a domain and, optionally, one item table and one user table a domain.

    A user name that occurs in two domains is the same person.

    Args:
        domains: domain name -> ``{"interactions": path, "items": path or None, "users": path or None}``.
        columns: names of the columns ``user, item`` and, optionally, ``rating, time``. A time is a number of seconds
            (floats are rounded down) or an ISO 8601 date. Without a rating every event has rating 1.
        item_columns: names of the columns ``item`` and any of ``title, brand, category, description, text, image,
            audio, entity``; a list of columns is joined by ``". "``.
        user_columns: likewise of the columns ``user`` and any of ``age, gender, occupation, text``.
        separator: between fields; None finds tab, comma, semicolon or bar in the header.
        quote: quoting character, None where quotes are plain characters.
        bad_rows: ``error`` stops at the first bad row, ``drop`` leaves bad rows out and counts them.
        unknown_items: what to do with an interaction whose item is not in the domain's item table: ``keep`` it (it
            has no title or text), stop with an ``error``, or ``drop`` and count it.
        file_order: without a time column, take the order of rows as the order of a user's events.

    Raises:
        CrossrecError: an option is not one of the above.
    """

    name = "tabular"
    licence = "your own files"

    def __init__(
        self,
        domains: Mapping[str, Mapping[str, str | Path | None]],
        columns: Mapping[str, str | None] | None = None,
        item_columns: Mapping[str, str | Sequence[str] | None] | None = None,
        user_columns: Mapping[str, str | Sequence[str] | None] | None = None,
        separator: str | None = None,
        quote: str | None = '"',
        bad_rows: BadRows = "error",
        unknown_items: Literal["keep", "error", "drop"] = "keep",
        file_order: bool = False,
    ) -> None:
        given = {"user": "user", "item": "item", **(columns or {})}
        given_items = {"item": "item", **(item_columns or {})}
        given_users = {"user": "user", **(user_columns or {})}
        for what, mapping, valid in (
            ("columns", given, _COLUMNS),
            ("item_columns", given_items, _ITEM_COLUMNS),
            ("user_columns", given_users, _USER_COLUMNS),
        ):
            for key in mapping:
                if key not in valid:
                    raise CrossrecError(f"tabular source: {what} has a key {key!r}; valid keys are {', '.join(valid)}")
        if not domains:
            raise CrossrecError("tabular source: no domain; set domains={name: {interactions: path, items: path}}")
        for name, paths in domains.items():
            unknown = set(paths) - set(_TABLES)
            if unknown or not paths.get("interactions"):
                raise CrossrecError(
                    f"tabular source: domain {name!r} needs a path `interactions` and may have `items` and `users`; "
                    f"found {', '.join(paths)}"
                )
        if unknown_items not in ("keep", "error", "drop"):
            raise CrossrecError(f"unknown_items is {unknown_items!r}: use 'keep', 'error' or 'drop'")
        Rejects(bad_rows)
        self.domains = {name: {k: Path(p) for k, p in paths.items() if p} for name, paths in domains.items()}
        self.columns = {k: v for k, v in given.items() if v}
        self.item_columns = {k: v for k, v in given_items.items() if v}
        self.user_columns = {k: v for k, v in given_users.items() if v}
        self.separator, self.quote = separator, quote
        self.bad_rows, self.unknown_items = bad_rows, unknown_items
        self.timed = "time" in self.columns
        self.file_order = file_order
        self.ordered = self.timed or file_order

    def files(self) -> list[Path]:
        """Return every domain's interaction file, item file and user file."""
        return [existing(paths[k]) for paths in self.domains.values() for k in _TABLES if k in paths]

    def options(self) -> dict[str, Any]:
        """Return domain names, columns and the treatment of bad rows."""
        users = {"user_columns": _listed(self.user_columns)} if any("users" in p for p in self.domains.values()) else {}
        return {
            **users,
            "domains": {name: sorted(paths) for name, paths in self.domains.items()},
            "columns": self.columns,
            "item_columns": _listed(self.item_columns),
            "separator": self.separator,
            "quote": self.quote,
            "bad_rows": self.bad_rows,
            "unknown_items": self.unknown_items,
            "file_order": self.file_order,
        }

    def domain_names(self) -> Sequence[str]:
        """Return the names that the tables go by."""
        return list(self.domains)

    def read(self) -> RawSource:
        """Read every domain; see :class:`Source`."""
        rejects = Rejects(self.bad_rows)
        domains = []
        for name, paths in self.domains.items():
            items = self._things("item", paths["items"], self.item_columns, rejects) if "items" in paths else None
            users = self._things("user", paths["users"], self.user_columns, rejects) if "users" in paths else None
            interactions = self._interactions(paths["interactions"], rejects)
            if items is not None and self.unknown_items != "keep":
                unknown = ~pl.col("item").is_in(items["item"].unique().implode())
                message = f"item {{}} is not in {paths['items']}; add it, or set unknown_items to keep or drop"
                judge = Rejects("error" if self.unknown_items == "error" else "drop", rejects.counts)
                interactions = judge.apply(
                    interactions, unknown, "unknown item", paths["interactions"], message, "item"
                )
            domains.append(raw_domain(name, interactions, items, users))
        return RawSource(domains, rejects.counts)

    def _interactions(self, path: Path, rejects: Rejects) -> pl.DataFrame:
        frame = read_table(path, rejects, self.separator, self.quote)
        frame = frame.select("line", **{k: pl.col(need(frame, v, path)) for k, v in self.columns.items()})
        frame = to_names(to_names(frame, "user", "user", path, rejects), "item", "item", path, rejects)
        if "rating" in self.columns:
            frame = to_ratings(frame, "rating", path, rejects)
        if self.timed:
            return to_times(frame, "time", path, rejects)
        return frame.with_columns(time=pl.int_range(pl.len()) if self.file_order else pl.lit(0))

    def _things(
        self, kind: str, path: Path, columns: Mapping[str, str | Sequence[str]], rejects: Rejects
    ) -> pl.DataFrame:
        """Read a table of items or of users, ``kind``: one row each, for the words of two cannot be told apart."""
        frame = read_table(path, rejects, self.separator, self.quote)
        chosen = {}
        for key, names in columns.items():
            parts = [
                pl.col(need(frame, n, path)).cast(pl.String) for n in ([names] if isinstance(names, str) else names)
            ]
            chosen[key] = pl.concat_str(parts, separator=". ", ignore_nulls=True)
        named = to_names(frame.select("line", **chosen), kind, kind, path, rejects)
        return one_row_each(named, kind, path, rejects)


def _listed(columns: Mapping[str, str | Sequence[str]]) -> dict[str, str | list[str]]:
    return {k: v if isinstance(v, str) else list(v) for k, v in columns.items()}
