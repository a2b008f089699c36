"""The published values of a study: a CSV file beside it."""

from __future__ import annotations

import math
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
    """Read ``dataset,method,domain,metric,value,std``, where every line must be of a cell of the study.

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
        CrossrecError: names the line at fault and the nearest valid names.
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
    for line, entry in enumerate(frame.iter_rows(named=True), 2):
        where = f"{path}, line {line}"
        try:
            value = float(entry["value"])
            std = float(entry["std"]) if entry.get("std") else None
        except (TypeError, ValueError):
            raise CrossrecError(f"{where}: value and std must be numbers") from None
        if not math.isfinite(value) or not math.isfinite(std or 0.0):
            raise CrossrecError(f"{where}: value and std must be finite")
        for column, names in known.items():
            if names is not None and (name := entry[column]) not in names:
                raise CrossrecError(f"{where}: {study} has no {column} {name!r}{nearest(name or '', names)}")
        key = (entry["method"], entry["dataset"] if named else "", entry["domain"], entry["metric"])
        if key in found:
            raise CrossrecError(f"{where}: a second value for {' '.join(filter(None, key))}")
        found[key] = (value, std)
    return found
