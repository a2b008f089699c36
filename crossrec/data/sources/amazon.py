"""Amazon reviews of 2014, 2018 and 2023."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import polars as pl

from crossrec.data.sources.base import RawSource, Source, raw_domain
from crossrec.data.sources.download import download_dir, fetch
from crossrec.data.sources.literals import read_record
from crossrec.data.sources.reading import chunks
from crossrec.data.sources.table import BadRows, Rejects
from crossrec.errors import CrossrecError

_ENDINGS = (".json.gz", ".jsonl.gz", ".json", ".jsonl")
_COLUMNS = ("title", "brand", "category", "description")


@dataclass(frozen=True)
class _Version:
    reviews: str
    core: str | None
    meta: str
    user: str
    item: str
    rating: str
    time: str
    per_second: int
    brand: str


_SNAP = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles/"
_UCSD = "https://jmcauley.ucsd.edu/data/amazon_v2/"
_LAB = "https://mcauleylab.ucsd.edu/public_datasets/data/amazon_2023/raw/"
_OLD = ("reviewerID", "asin", "overall", "unixReviewTime", 1, "brand")

VERSIONS = {
    "2014": _Version(
        f"{_SNAP}reviews_{{}}.json.gz", f"{_SNAP}reviews_{{}}_5.json.gz", f"{_SNAP}meta_{{}}.json.gz", *_OLD
    ),
    "2018": _Version(
        f"{_UCSD}categoryFiles/{{}}.json.gz",
        f"{_UCSD}categoryFilesSmall/{{}}_5.json.gz",
        f"{_UCSD}metaFiles2/meta_{{}}.json.gz",
        *_OLD,
    ),
    "2023": _Version(
        f"{_LAB}review_categories/{{}}.jsonl.gz",
        None,
        f"{_LAB}meta_categories/meta_{{}}.jsonl.gz",
        *("user_id", "parent_asin", "rating", "timestamp", 1000, "store"),
    ),
}
"""Where the versions lie and what they call their fields; ``per_second``: clock ticks of their timestamps."""


class Amazon(Source):
    """Reviews of any categories, one domain a category; a reviewer of two categories is the same person.

    An item's text is its title, brand (store), categories and description, shortened; each is a column, too. The
    publishers state no checksums: a file's hash is recorded with the prepared corpus, and can be demanded by
    ``sha256``.

    Source: McAuley et al. (SIGIR 2015) for 2014; Ni et al. (EMNLP 2019) for 2018; Hou et al. (2024) for 2023.

    Args:
        version: ``2014``, ``2018`` or ``2023``.
        categories: as in the official file names, e.g. ``Beauty``, ``All_Beauty``, ``Home_and_Kitchen``.
        root: folder that holds reviews and metadata under their official names (``.json`` or ``.jsonl``, with or
            without ``.gz``); None for the cache of downloads.
        download: whether missing files may be fetched.
        five_core: read the publisher's 5-core reviews (2014 and 2018).
        text_length: characters of an item's text, and of its description.
        sha256: file name -> hex digest that a file must have.
        bad_rows: ``error`` stops at the first bad row, ``drop`` leaves bad rows out and counts them.

    Raises:
        CrossrecError: an option is not one of the above.
    """

    name = "amazon"
    licence = (
        "Amazon reviews of the McAuley lab (https://amazon-reviews-2023.github.io), for research use: cite McAuley et "
        "al. 2015, Ni et al. 2019 or Hou et al. 2024"
    )

    def __init__(
        self,
        version: Literal["2014", "2018", "2023"] | int = "2014",
        categories: Sequence[str] = ("Beauty", "Toys_and_Games"),
        root: str | Path | None = None,
        download: bool = True,
        five_core: bool = False,
        text_length: int = 600,
        sha256: Mapping[str, str] | None = None,
        bad_rows: BadRows = "error",
    ) -> None:
        if str(version) not in VERSIONS:
            raise CrossrecError(f"amazon source: no version {version!r}; valid versions are {', '.join(VERSIONS)}")
        self.version = str(version)
        self.fields = VERSIONS[self.version]
        if five_core and self.fields.core is None:
            raise CrossrecError(
                f"amazon source: version {version} has no 5-core reviews: set five_core=false and filter them"
            )
        if not categories:
            raise CrossrecError("amazon source: no category; set categories to names of official files, e.g. [Beauty]")
        if text_length < 1:
            raise CrossrecError(f"amazon source: text_length={text_length} must be positive")
        Rejects(bad_rows)
        self.categories, self.five_core, self.text_length = list(categories), five_core, text_length
        self.root, self.download = Path(root) if root else None, download
        self.sha256, self.bad_rows = dict(sha256 or {}), bad_rows

    def files(self) -> list[Path]:
        """Return each category's reviews and metadata, fetching what is missing."""
        reviews = self.fields.core if self.five_core and self.fields.core else self.fields.reviews
        return [self._file(url.format(c)) for c in self.categories for url in (reviews, self.fields.meta)]

    def _file(self, url: str) -> Path:
        from crossrec.data.sources.hashing import sha256

        name = url.rsplit("/", 1)[-1]
        stem = name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".json")
        folders = [*([self.root] if self.root else []), download_dir() / f"amazon-{self.version}"]
        wanted = self.sha256.get(name)
        for path in (folder / f"{stem}{ending}" for folder in folders for ending in _ENDINGS):
            if path.is_file():
                expected = self.sha256.get(path.name)
                if expected and sha256(path) != expected:
                    raise CrossrecError(
                        f"{path} is damaged or another version: its sha256 is not {expected}; fetch it again"
                    )
                return path
        why = "downloads are switched off"
        if self.download:
            try:
                return fetch(url, folders[-1], f"sha256:{wanted}" if wanted else None, timeout=30.0)
            except CrossrecError as error:
                why = str(error)
        raise CrossrecError(
            f"amazon source: {name} is not at hand: {why}; fetch {url} and place it in {folders[0].resolve()}"
        )

    def options(self) -> dict[str, Any]:
        """Return version, categories, text length, the treatment of bad rows, and what is read of an item."""
        keys = ("version", "categories", "five_core", "text_length", "bad_rows")
        return {**{k: getattr(self, k) for k in keys}, "columns": list(_COLUMNS)}

    def domain_names(self) -> Sequence[str]:
        """Return the categories."""
        return self.categories

    def read(self) -> RawSource:
        """Read every category; see :class:`Source`."""
        rejects = Rejects(self.bad_rows)
        files = self.files()
        domains = []
        for category, reviews, meta in zip(self.categories, files[::2], files[1::2]):
            events = self._reviews(reviews, rejects)
            items = self._items(meta, rejects, events["item"].unique())
            domains.append(raw_domain(category, events, items))
        return RawSource(domains, rejects.counts)

    def _reviews(self, path: Path, rejects: Rejects) -> pl.DataFrame:
        f = self.fields
        parts = [_json_lines(piece, first, path, f, rejects) for first, piece in chunks(path)]
        frame = pl.concat(parts)
        if not frame.height:
            raise CrossrecError(f"{path} has no readable review: fetch it again")
        return frame

    def _items(self, path: Path, rejects: Rejects, wanted: pl.Series) -> pl.DataFrame:
        keep = set(wanted.to_list())
        rows = [
            (item, *self._words(record))
            for record in _records(path, rejects)
            if (item := str(record.get(self.fields.item) or "")) in keep
        ]
        frame = pl.DataFrame(rows, schema=dict.fromkeys(("item", *_COLUMNS, "text"), pl.String), orient="row")
        return frame.with_columns(entity=pl.col("item"))

    def _words(self, record: Mapping[str, Any]) -> tuple[str, ...]:
        categories = record.get("categories") or record.get("category")
        title, brand, category, description = (
            _flat(value)
            for value in (record.get("title"), record.get(self.fields.brand), categories, record.get("description"))
        )
        text = ". ".join(p for p in (title, brand, category, description) if p)
        return title, brand, category, description[: self.text_length], text[: self.text_length]


def _flat(value: Any) -> str:
    """Join nested lists of words, without repeating any."""
    if isinstance(value, list | tuple):
        return ", ".join(dict.fromkeys(w for v in value if (w := _flat(v))))
    return " ".join(str(value).split()) if value is not None else ""


def _json_lines(piece: bytes, first: int, path: Path, fields: _Version, rejects: Rejects) -> pl.DataFrame:
    """Parse lines of reviews to ``user, item, rating, time`` (seconds)."""
    lines = pl.DataFrame({"text": piece.decode().split("\n")}).with_row_index("line", offset=first)
    lines = lines.filter(pl.col("text").str.strip_chars() != "")
    schema = {fields.user: pl.String, fields.item: pl.String, fields.rating: pl.Float64, fields.time: pl.Int64}
    try:
        frame = pl.read_ndjson("\n".join(lines["text"].to_list()).encode(), schema=schema)
    except pl.exceptions.PolarsError:
        lines, frame = _slowly(lines, schema, path, rejects)
    frame = frame.with_columns(line=lines["line"])
    for column, what in (
        (fields.user, "user"),
        (fields.item, "item"),
        (fields.rating, "rating"),
        (fields.time, "time"),
    ):
        message = (
            f"the review has no {what} (found {{}} in field {column!r}); fetch the file again, or set bad_rows=drop"
        )
        frame = rejects.apply(frame, pl.col(column).is_null(), f"no {what}", path, message, column)
    return frame.select(
        user=fields.user,
        item=fields.item,
        rating=pl.col(fields.rating).cast(pl.Float32),
        time=pl.col(fields.time) // fields.per_second,
    )


def _slowly(
    lines: pl.DataFrame, schema: Mapping[str, Any], path: Path, rejects: Rejects
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Parse a piece that holds a bad line, line by line, to find it."""
    good, rows = [], []
    for text in lines["text"]:
        try:
            record = json.loads(text)
            row = tuple(None if (v := record.get(k)) is None else _PYTHON[t](v) for k, t in schema.items())
        except (ValueError, TypeError, AttributeError):
            row = None
        good.append(row is not None)
        if row is not None:
            rows.append(row)
    message = "{} is not a JSON review with a numeric rating and time; fetch the file again, or set bad_rows=drop"
    shown = lines.with_columns(pl.Series("good", good), pl.col("text").str.slice(0, 80))
    kept = rejects.apply(shown, ~pl.col("good"), "not a JSON review", path, message, "text")
    return kept, pl.DataFrame(rows, schema=dict(schema), orient="row")


_PYTHON: dict[Any, Any] = {pl.String: str, pl.Float64: float, pl.Int64: int}


def _records(path: Path, rejects: Rejects) -> Iterator[dict[str, Any]]:
    """Yield the metadata records: JSON, or the Python literals of 2014."""
    for first, piece in chunks(path):
        for offset, text in enumerate(piece.decode().split("\n")):
            if not text.strip():
                continue
            record = read_record(text)
            if record is not None:
                yield record
            elif rejects.bad_rows == "drop":
                rejects.counts["unreadable metadata"] = rejects.counts.get("unreadable metadata", 0) + 1
            else:
                raise CrossrecError(
                    f"{path}, line {first + offset}: {text[:60]!r} is neither JSON nor a Python literal; fetch the "
                    "file again, or set bad_rows=drop"
                )
