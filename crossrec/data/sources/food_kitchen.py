"""Amazon Grocery (food) and Home & Kitchen as the sequences of LLMCDSR."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from crossrec.data.sources.base import RawSource, Source, raw_domain
from crossrec.data.sources.reading import find, first_failure, read_lines
from crossrec.data.sources.sequences import explode
from crossrec.data.sources.table import Rejects, need, read_table
from crossrec.errors import CrossrecError

SEQUENCES = ("train_A", "train_B", "train_overlap", "valid", "test")
DOMAINS = {"A": "food", "B": "kitchen"}


class FoodKitchen(Source):
    """Food and Kitchen: all five sequence files, pooled, one user a line.

    The files name no users: a line is a user, and one person with lines in two files cannot be recognised. Nothing is
    dropped, and the upstream split is not used: hold out each user's last items instead. ``time`` is the event's
    position in the user's mixed sequence, so the order of events holds across both domains.

    Source: "LLMCDSR: Enhancing Cross-Domain Sequential Recommendation with Large Language Models"
    (TOIS 2025).

    Args:
        root: folder with ``items.tsv`` and ``train_A.txt, train_B.txt, train_overlap.txt, valid.txt, test.txt``,
            plain or compressed (``.xz``, ``.gz``).
    """

    name = "food_kitchen"
    licence = (
        "Amazon reviews, for research use; sequences of the LLMCDSR repository (TOIS 2025): cite it and the Amazon "
        "reviews data of McAuley et al."
    )
    timed = False

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def files(self) -> list[Path]:
        """Return the item table and the five sequence files."""
        return [find(self.root, "items.tsv"), *(find(self.root, f"{name}.txt") for name in SEQUENCES)]

    def options(self) -> dict[str, Any]:
        """Return nothing: the files say all."""
        return {}

    def domain_names(self) -> Sequence[str]:
        """Return food and kitchen."""
        return list(DOMAINS.values())

    def read(self) -> RawSource:
        """Read both domains; see :class:`Source`."""
        table, *sequences = self.files()
        items = item_table(table)
        parts = []
        for path, name in zip(sequences, SEQUENCES):
            lines = read_lines(path)
            good = pl.col("line").str.contains(r"^\d+\t\d+(,\d+)*$")
            first_failure(lines, good, path, "a number, a tab, and item indices separated by commas")
            fields = pl.col("line").str.split("\t")
            events = fields.list.get(1).str.split(",").list.eval(pl.element().cast(pl.Int64))
            parts.append(explode(lines, pl.lit(f"{name}-") + fields.list.get(0), events))
        events_ = pl.concat(parts).rename({"event": "index"}).join(items, on="index", how="left", maintain_order="left")
        unknown = events_.filter(pl.col("item").is_null())
        if unknown.height:
            raise CrossrecError(f"{table} has no item_index {unknown['index'][0]}, which user {unknown['user'][0]} has")
        return RawSource(
            [
                raw_domain(
                    name,
                    events_.filter(pl.col("domain") == letter).select("user", "item", "time"),
                    items.filter(pl.col("domain") == letter),
                )
                for letter, name in DOMAINS.items()
            ]
        )


def item_table(path: Path) -> pl.DataFrame:
    """Read ``items.tsv``.

    Returns:
        Columns ``index: i64, item: str`` (ASIN), ``domain: str`` (A or B), ``title: str``, ``entity: str`` (ASIN).
    """
    frame = read_table(path, Rejects(), separator="\t", quote=None)
    names = [need(frame, column, path) for column in ("item_index", "asin", "domain", "title")]
    frame = frame.select("line", *names)
    bad = pl.col("item_index").cast(pl.Int64, strict=False).is_null()
    frame = Rejects().apply(frame, bad, "index", path, "item_index {} is not an integer", "item_index")
    wrong = ~pl.col("domain").is_in(list(DOMAINS))
    frame = Rejects().apply(frame, wrong, "domain", path, "domain {} is neither A nor B", "domain")
    return frame.select(
        index=pl.col("item_index").cast(pl.Int64), item="asin", domain="domain", title="title", entity="asin"
    )
