"""Dual-domain sequences with timestamps, as preprocessed by ABXI."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from crossrec.data.sources.base import RawSource, Source, raw_domain
from crossrec.data.sources.food_kitchen import item_table
from crossrec.data.sources.reading import find, first_failure, read_bytes, read_lines
from crossrec.data.sources.sequences import explode
from crossrec.errors import CrossrecError


class ABXI(Source):
    """Two Amazon domains of one set of users, with the split of the paper in ``Corpus.fixed``.

    A user's events are in one mixed order of time; the last is the test event, the second last the validation event,
    and all others train (the leave-one-out protocol of the paper, on the mixed sequence). Timestamps are days in
    seconds, so many events share one: the file's order decides.

    Source: "ABXI: Invariant Interest Adaptation for Task-Guided Cross-Domain Sequential Recommendation" (WWW 2025).

    Args:
        root: folder with ``afk_50_preprocessed.txt``, ``map_item_50.txt`` and ``map_user_50.txt`` (another pair and
            length by ``prefix`` and ``length``), plain or compressed.
        domains: names of the two domains, A first.
        titles: a table with columns ``item_index, asin, domain, title`` that names items by ASIN (plain or
            compressed); None for no titles.
        prefix: of the sequence file's name.
        length: the number in the files' names: events kept of a user.
    """

    name = "abxi"
    licence = "Amazon reviews, for research use; preprocessed by the ABXI repository (WWW 2025): cite both"

    def __init__(
        self,
        root: str | Path,
        domains: tuple[str, str] | list[str] = ("food", "kitchen"),
        titles: str | Path | None = None,
        prefix: str = "afk",
        length: int = 50,
    ) -> None:
        if len(domains) != 2:
            raise CrossrecError(f"abxi source: domains={list(domains)} must be two names, A first")
        self.root, self.domains = Path(root), tuple(domains)
        self.titles = Path(titles) if titles else None
        self.prefix, self.length = prefix, length

    def files(self) -> list[Path]:
        """Return sequences, item map, user map and the table of titles if there is one."""
        names = (
            f"{self.prefix}_{self.length}_preprocessed.txt",
            f"map_item_{self.length}.txt",
            f"map_user_{self.length}.txt",
        )
        return [
            *(find(self.root, n) for n in names),
            *([find(self.titles.parent, self.titles.name)] if self.titles else []),
        ]

    def options(self) -> dict[str, Any]:
        """Return the domains' names and whether there are titles."""
        return {"domains": list(self.domains), "titles": self.titles is not None}

    def domain_names(self) -> Sequence[str]:
        """Return both names."""
        return self.domains

    def read(self) -> RawSource:
        """Read both domains; see :class:`Source`."""
        sequences, item_map, user_map, *titles = self.files()
        items, users = _items(item_map), _users(user_map)
        lines = read_lines(sequences)
        good = pl.col("line").str.contains(r"^\d+( \d+\|\d+)+ *$")
        first_failure(lines, good, sequences, "a user number and item|unixtime pairs, separated by blanks")
        words = pl.col("line").str.strip_chars().str.split(" ")
        frame = explode(lines, words.list.get(0), words.list.slice(1)).rename({"time": "order"})
        pair = pl.col("event").str.split("|")
        frame = frame.with_columns(
            number=pl.col("user").cast(pl.Int64),
            index=pair.list.get(0).cast(pl.Int64),
            time=pair.list.get(1).cast(pl.Int64),
            split=pl.when(pl.col("order") == pl.col("order").max().over("user"))
            .then(2)
            .when(pl.col("order") == pl.col("order").max().over("user") - 1)
            .then(1)
            .otherwise(0),
        )
        frame = frame.join(items, on="index", how="left", maintain_order="left").drop("user")
        frame = frame.join(users, on="number", how="left", maintain_order="left")
        for column, key, path in (("item", "index", item_map), ("user", "number", user_map)):
            missing = frame.filter(pl.col(column).is_null())
            if missing.height:
                raise CrossrecError(f"{path} has no {column} {missing[key][0]}, which {sequences} uses")
        table = items.with_columns(entity=pl.col("item"))
        if titles:
            named = item_table(titles[0]).select("item", "title").unique("item", keep="first")
            table = table.join(named, on="item", how="left", maintain_order="left")
        columns = ("user", "item", "time", "order", "split")
        return RawSource(
            [
                raw_domain(
                    name, frame.filter(pl.col("domain") == d).select(columns), table.filter(pl.col("domain") == d)
                )
                for d, name in enumerate(self.domains)
            ]
        )


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_bytes(path))
    except ValueError as error:
        raise CrossrecError(f"{path} is not JSON ({error}): fetch it again") from None
    if not isinstance(content, dict):
        raise CrossrecError(f"{path} holds no JSON object: fetch it again")
    return content


def _items(path: Path) -> pl.DataFrame:
    content = _json(path)
    try:
        pairs = pl.DataFrame(list(content.values()), schema={"index": pl.Int64, "domain": pl.Int64}, orient="row")
    except (TypeError, ValueError, pl.exceptions.PolarsError):
        raise CrossrecError(f"{path} must map every item to [index, domain]: fetch it again") from None
    return pairs.with_columns(item=pl.Series(list(content), dtype=pl.String))


def _users(path: Path) -> pl.DataFrame:
    content = _json(path)
    try:
        return pl.DataFrame(
            {"user": list(content), "number": list(content.values())}, schema_overrides={"number": pl.Int64}
        )
    except (TypeError, ValueError, pl.exceptions.PolarsError):
        raise CrossrecError(f"{path} must map every user to a number: fetch it again") from None
