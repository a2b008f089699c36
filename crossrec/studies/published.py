"""The published values of a study: a CSV file beside it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

from crossrec.errors import CrossrecError
from crossrec.studies.study import Published
from crossrec.suggestions import nearest

COLUMNS = ("dataset", "method", "domain", "metric", "value")


def read_published(
    path: Path,
    study: str,
    rows: Sequence[str],
    data: Sequence[str],
    metrics: Sequence[str],
    domains: Sequence[str] | None,
) -> Published:
    """Read ``dataset,method,domain,metric,value,std``.

    A line is of a cell of the study, or of what the study does not show, as a paper's whole table has other methods: a
    warning names what is left out. A name that differs from the study's in case or spaces alone is a mistake.

    ``method`` is the name of a row; ``dataset`` one of the study's ``data``, and is there exactly when the study names
    any. ``std`` may be empty; other columns say more to people.

    Args:
        path: the file.
        study: name of the study's file.
        rows: names of its rows.
        data: of its data sets; one empty name where it names none.
        metrics: its columns.
        domains: its domains; None where all that are evaluated are shown, which are checked once they are known.

    Raises:
        CrossrecError: names the line at fault and the nearest valid names; or no line is of a cell.
    """
    import polars as pl

    try:
        frame = pl.read_csv(path, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise CrossrecError(f"{path} is not a CSV table in UTF-8: {' '.join(str(error).split())}") from None
    named = len(data) > 1 or bool(data[0])
    wanted = COLUMNS if named else COLUMNS[1:]
    missing = [c for c in wanted if c not in frame.columns]
    if missing:
        raise CrossrecError(f"{path} has no column {missing[0]!r}; it needs {', '.join(wanted)}")
    if "dataset" in frame.columns and not named:
        raise CrossrecError(
            f"{path} has a column 'dataset', but {study} names no data: leave it out, or name them as in data: "
            "{ml-100k: [data=movielens]}"
        )
    if not frame.height:
        raise CrossrecError(f"{path} has no values: write a line for each, or leave out published")
    known = {"dataset": data if named else None, "method": rows, "domain": domains, "metric": metrics}
    found: dict[tuple[str, str, str, str], tuple[float, float | None]] = {}
    others: list[str] = []
    for line, entry in enumerate(frame.iter_rows(named=True), 2):
        where = f"{path}, line {line}"
        try:
            value = float(entry["value"])
            std = float(entry["std"]) if entry.get("std") else None
        except (TypeError, ValueError):
            raise CrossrecError(f"{where}: value and std must be numbers") from None
        if not math.isfinite(value) or not math.isfinite(std or 0.0):
            raise CrossrecError(f"{where}: value and std must be finite")
        strange = [
            (c, str(entry[c] or "")) for c, names in known.items() if names is not None and entry[c] not in names
        ]
        for column, name in strange:
            same = [other for other in known[column] or () if _plain(other) == _plain(name)]
            if not name or same:
                raise CrossrecError(f"{where}: {study} has no {column} {name!r}{nearest(name, known[column] or ())}")
        if strange:
            others.append(f"{strange[0][0]} {strange[0][1]!r}{nearest(strange[0][1], known[strange[0][0]] or ())}")
            continue
        key = (entry["method"], entry["dataset"] if named else "", entry["domain"], entry["metric"])
        if key in found:
            raise CrossrecError(f"{where}: a second value for {' '.join(filter(None, key))}")
        found[key] = (value, std)
    if not found:
        raise CrossrecError(f"{path} has no value of a cell of {study}: it has no {others[0]}")
    if others:
        warnings.warn(
            f"{path}: {len(others)} of {frame.height} lines are left out, because {study} has no "
            + "; no ".join(dict.fromkeys(others)),
            stacklevel=2,
        )
    return found


def _plain(name: str) -> str:
    return "".join(name.casefold().split())
