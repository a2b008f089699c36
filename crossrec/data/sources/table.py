"""Delimited text to a frame of strings, and strings to ratings and times, with the line of every bad row."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import polars as pl

from crossrec.data.sources.reading import existing, read_bytes
from crossrec.errors import CrossrecError

BadRows = Literal["error", "drop"]

SECOND = "another row of the same {}"
"""Reason under which rows are counted that say something else than the first of their key."""

_SEPARATORS = ("\t", ",", ";", "|")

NO_TABLES = (".json", ".jsonl", ".ndjson", ".xls", ".xlsx", ".ods")
"""Endings of files that people have tables in and that are not read here."""


@dataclass
class Rejects:
    """Decides what a bad row means: an error that names it, or a count.

    Args:
        bad_rows: ``error`` or ``drop``.
        counts: rows dropped so far, by reason.
    """

    bad_rows: BadRows = "error"
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.bad_rows not in ("error", "drop"):
            raise CrossrecError(f"bad_rows is {self.bad_rows!r}: use 'error' or 'drop'")

    def apply(
        self, frame: pl.DataFrame, bad: pl.Expr, reason: str, path: Path, message: str, shown: str
    ) -> pl.DataFrame:
        """Drop the rows where ``bad`` holds, or raise for the first of them.

        Args:
            frame: has a column ``line``: where in the file the row is.
            bad: boolean expression.
            reason: key of the count.
            path: file the frame was read from.
            message: the error's end: what is expected and how to mend it; ``{}`` is replaced by the value.
            shown: column with the value to show.
        """
        mask = frame.select(bad.fill_null(True)).to_series()
        found = int(mask.sum())
        if not found:
            return frame
        if self.bad_rows == "error":
            line, value = frame.filter(mask).select("line", pl.col(shown).cast(pl.String)).row(0)
            raise CrossrecError(f"{path}, line {line}: {message.replace('{}', repr(value))}")
        self.counts[reason] = self.counts.get(reason, 0) + found
        return frame.filter(~mask)


def read_table(
    path: str | Path, rejects: Rejects, separator: str | None = None, quote: str | None = '"'
) -> pl.DataFrame:
    """Read CSV or TSV (plain, ``.gz``, ``.xz``) as strings, or Parquet with its own types.

    Args:
        path: the file.
        rejects: what to do with rows that have too many or too few fields.
        separator: between fields; None takes the most frequent of tab, comma, semicolon, bar in the header.
        quote: quoting character, None where quotes mean nothing.

    Returns:
        The file's columns and ``line: i64``, the row's line in the file (its row number from 1 in Parquet).

    Raises:
        CrossrecError: the file is missing, empty, damaged, not UTF-8, has a column twice or a row of wrong length.
    """
    path = existing(path)
    if (kind := Path(path.name.removesuffix(".gz").removesuffix(".xz")).suffix.lower()) in NO_TABLES:
        raise CrossrecError(
            f"{path} is no table of columns, by its name a {kind} file: write it as CSV, TSV or Parquet"
        )
    if path.suffix == ".parquet":
        try:
            frame = pl.read_parquet(path)
        except pl.exceptions.PolarsError:
            raise CrossrecError(f"{path} is not a Parquet file, or is damaged: write it again") from None
        _not_empty(frame, path)
        return frame.with_columns(line=pl.int_range(1, pl.len() + 1))
    data = read_bytes(path)
    head = data.split(b"\n", 1)[0].decode().rstrip("\r")
    if separator is None:
        separator = max(_SEPARATORS, key=head.count)
    names = next(csv.reader([head], delimiter=separator, quotechar=quote or "\0"))
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise CrossrecError(f"{path}, line 1: column {twice[0]!r} occurs twice in the header: rename one of them")
    data, numbers = _uniform(data, len(names), separator, quote, path, rejects)
    try:
        frame = pl.read_csv(data, separator=separator, quote_char=quote, infer_schema=False, has_header=True)
    except pl.exceptions.NoDataError:
        frame = pl.DataFrame()
    except pl.exceptions.PolarsError as error:
        reason = str(error).split("\n")[0]
        raise CrossrecError(
            f"{path} cannot be read as a table of {len(names)} columns ({reason}): check its separator and quotes"
        ) from None
    _not_empty(frame, path)
    exact = len(numbers) == frame.height
    return frame.with_columns(line=pl.Series(numbers, dtype=pl.Int64) if exact else pl.int_range(2, pl.len() + 2))


def _not_empty(frame: pl.DataFrame, path: Path) -> None:
    if not frame.height:
        raise CrossrecError(f"{path} is empty: it must hold at least one row below its header")


def _uniform(
    data: bytes, width: int, separator: str, quote: str | None, path: Path, rejects: Rejects
) -> tuple[bytes, pl.Series]:
    """Take out blank lines and lines of wrong width (lines with a quote are left to the CSV parser)."""
    lines = pl.DataFrame({"text": data.decode().replace("\r\n", "\n").split("\n")})
    lines = lines.with_row_index("line", offset=1).with_columns(pl.col("line").cast(pl.Int64))
    quoted = pl.col("text").str.contains(quote, literal=True) if quote else pl.lit(False)
    if quote is None or not lines.select(quoted.any()).item():
        lines = lines.filter(pl.col("text") != "")
    wrong = ~quoted & (pl.col("text").str.count_matches(separator, literal=True) != width - 1) & (pl.col("text") != "")
    if quote and lines.select(quoted.any()).item() and not _closed(lines, quote):
        wrong = pl.lit(False)  # a quoted field runs over lines: a line is not a row
    message = f"the row {{}} has not the header's {width} fields; mend it, or set bad_rows=drop where the source has it"
    kept = rejects.apply(lines, wrong, "wrong number of fields", path, message, "text")
    return "\n".join(kept["text"].to_list()).encode(), kept["line"][1:]


def _closed(lines: pl.DataFrame, quote: str) -> bool:
    return not lines.select((pl.col("text").str.count_matches(quote, literal=True) % 2 == 1).any()).item()


def need(frame: pl.DataFrame, column: str, path: Path) -> str:
    """Return ``column``, or raise a CrossrecError that lists the columns of ``frame`` and the nearest one."""
    if column in frame.columns:
        return column
    have = [c for c in frame.columns if c != "line"]
    close = get_close_matches(column, have, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else "; name the right one in the source's columns"
    raise CrossrecError(f"{path} has no column {column!r}; it has {', '.join(have)}{hint}")


def cleaned(columns: Sequence[str]) -> pl.Expr:
    """Columns as strings without surrounding blanks, null where nothing is left."""
    text = pl.col(columns).cast(pl.String).str.strip_chars()
    return pl.when(text == "").then(None).otherwise(text).name.keep()


def unlike_first(key: str, fields: Sequence[str]) -> pl.Expr:
    """Whether a row says something else in ``fields`` than the first row of its ``key``."""
    return pl.any_horizontal(pl.col(f).ne_missing(pl.col(f).first().over(key)) for f in fields)


def one_row_each(frame: pl.DataFrame, key: str, path: Path, rejects: Rejects) -> pl.DataFrame:
    """Reject rows that say something else than an earlier one of the same ``key``; equal ones are no fault."""
    fields = [column for column in frame.columns if column not in (key, "line")]
    if not fields:
        return frame
    message = f"a second row of {key} {{}} says something else than its first; leave one, or set bad_rows=drop"
    frame = frame.with_columns(cleaned(fields))
    return rejects.apply(frame, unlike_first(key, fields), SECOND.format(key), path, message, key)


def to_names(frame: pl.DataFrame, column: str, what: str, path: Path, rejects: Rejects) -> pl.DataFrame:
    """Turn a column into non-empty strings without surrounding blanks."""
    frame = frame.with_columns(pl.col(column).cast(pl.String).str.strip_chars())
    bad = pl.col(column).is_null() | (pl.col(column) == "")
    return rejects.apply(
        frame, bad, f"no {what}", path, f"the row has no {what} in column {column!r} (found {{}}); fill it", column
    )


def to_ratings(frame: pl.DataFrame, column: str, path: Path, rejects: Rejects) -> pl.DataFrame:
    """Turn a column into finite f32 ratings."""
    number = pl.col(column).cast(pl.Float32, strict=False)
    bad = number.is_null() | ~number.is_finite()
    message = (
        f"rating {{}} in column {column!r} is not a number; correct it, or set bad_rows=drop where the source has it"
    )
    return rejects.apply(frame, bad, "rating is not a number", path, message, column).with_columns(number)


def to_times(frame: pl.DataFrame, column: str, path: Path, rejects: Rejects) -> pl.DataFrame:
    """Turn a column of integers, floats (rounded down) or ISO 8601 dates (UTC unless they say) into i64 seconds.

    A column is of one kind: where numbers and dates are mixed, rows of the rarer kind are bad. A number among dates is
    hardly one of seconds: 2020 and 20200131 are numbers, too.
    """
    kind = frame.schema[column]
    if kind == pl.Date or isinstance(kind, pl.Datetime):
        seconds = pl.col(column).cast(pl.Datetime("us")).dt.epoch("s")
    elif kind.is_numeric():
        seconds = pl.col(column).cast(pl.Float64).floor().cast(pl.Int64, strict=False)
    else:
        text = pl.col(column).cast(pl.String).str.strip_chars()
        iso = text.str.replace("T", " ", literal=True).str.replace("Z$", "+00:00")
        zoned = iso.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%z", strict=False, time_unit="us")
        formats = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d")
        plain = [iso.str.to_datetime(f, strict=False, time_unit="us").dt.epoch("s") for f in formats]
        whole = text.cast(pl.Int64, strict=False)
        fraction = text.cast(pl.Float64, strict=False).floor().cast(pl.Int64, strict=False)
        number, date = pl.coalesce(whole, fraction), pl.coalesce(*plain, zoned.dt.epoch("s"))
        n_numbers, n_dates = frame.select(numbers=number.is_not_null().sum(), dates=date.is_not_null().sum()).row(0)
        if n_numbers and n_dates:
            rare, kinds = (date, "date among numbers") if n_dates <= n_numbers else (number, "number among dates")
            message = f"time {{}} in column {column!r} is a {kinds}: write all times as one or the other"
            frame = rejects.apply(frame, rare.is_not_null(), "time of another kind", path, message, column)
        seconds = pl.coalesce(number, date)
    message = f"time {{}} in column {column!r} is neither a number of seconds nor an ISO 8601 date; correct it"
    frame = frame.with_columns(seconds.alias("_seconds"))
    frame = rejects.apply(frame, pl.col("_seconds").is_null(), "time is not readable", path, message, column)
    return frame.with_columns(pl.col("_seconds").alias(column)).drop("_seconds")
