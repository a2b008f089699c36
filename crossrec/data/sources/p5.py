"""Amazon 2014 Beauty, Sports and Toys as the sequences of S3-Rec and P5."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from crossrec.data.schema import RawDomain
from crossrec.data.sources import pgpr
from crossrec.data.sources.base import RawSource, Source, raw_domain
from crossrec.data.sources.reading import find, first_failure, read_lines
from crossrec.data.sources.sequences import explode


class P5(Source):
    """Sequences of reviewers per domain, shared users by their reviewer id.

    The files hold no timestamps: ``time`` is the event's position within the user's sequence *of that domain*. For a
    user of two domains there is no order across them, so a history that mixes domains interleaves them by position.

    Where a domain has a folder ``pgpr``, the knowledge graph of PGPR (SIGIR 2019) gives its items brand and category.

    Source: P5, "Recommendation as Language Processing" (RecSys 2022); the 5-core sequences are those of S3-Rec (CIKM
        2020).

    Args:
        root: folder with one folder a domain, each with ``user_sequence.txt`` (``reviewerID ASIN ASIN ...``) and
            ``item_phrases.txt`` (``ASIN phrase``), plain or compressed.
        domains: names of the folders.
    """

    name = "p5"
    licence = "Amazon reviews 2014 (5-core), for research use: cite McAuley et al. (SIGIR 2015) and P5 (RecSys 2022)"
    timed = False

    def __init__(self, root: str | Path, domains: Sequence[str] = ("Beauty", "Sports", "Toys")) -> None:
        self.root, self.domains = Path(root), list(domains)

    def files(self) -> list[Path]:
        """Return every domain's sequences and phrases, and the graphs' files that there are."""
        return [path for d in self.domains for path in (*self._texts(d), *pgpr.files(self.root / d / "pgpr"))]

    def _texts(self, domain: str) -> tuple[Path, Path]:
        folder = self.root / domain
        return find(folder, "user_sequence.txt"), find(folder, "item_phrases.txt")

    def options(self) -> dict[str, Any]:
        """Return the domains."""
        return {"domains": self.domains}

    def domain_names(self) -> Sequence[str]:
        """Return the folders' names."""
        return self.domains

    def read(self) -> RawSource:
        """Read every domain; see :class:`Source`."""
        return RawSource([_domain(d, *self._texts(d), self.root / d / "pgpr") for d in self.domains])


def _domain(name: str, sequences: Path, phrases: Path, graph: Path) -> RawDomain:
    lines = read_lines(sequences)
    first_failure(lines, pl.col("line").str.contains(r"^\S+( +\S+)+ *$"), sequences, "reviewerID ASIN ASIN ...")
    words = pl.col("line").str.extract_all(r"\S+")
    events = explode(lines, words.list.get(0), words.list.slice(1)).rename({"event": "item"})
    names = read_lines(phrases)
    first_failure(names, pl.col("line").str.contains(r"^\S+"), phrases, "ASIN phrase")
    items = names.select(
        item=pl.col("line").str.extract(r"^(\S+)"), title=pl.col("line").str.extract(r"^\S+\s+(.*)$")
    ).with_columns(entity=pl.col("item"))
    if graph.is_dir():
        items = items.join(pgpr.read(graph), on="item", how="left", maintain_order="left")
    return raw_domain(name, events, items)
