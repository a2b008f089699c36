"""Where a number of a table comes from."""

from __future__ import annotations

from itertools import product
from pathlib import Path

from crossrec.errors import CrossrecError
from crossrec.runs.store import RunFolder
from crossrec.studies.table import Table, series
from crossrec.suggestions import nearest


def trace(table: Table, row: str, metric: str) -> list[str]:
    """Say for every cell of a row and metric which runs it is the mean of.

    Args:
        table: the table.
        row: name of a row, or of rows that a study made from a list of values.
        metric: name of the metric.

    Returns:
        Lines: the cell, then for each run its value, folder, config, git revision and command.

    Raises:
        CrossrecError: the table has no such row or metric.
    """
    named = {r: series(r, key) for r, (key, _) in table.parameters.items()}
    rows = [r for r in table.rows if r == row] or [r for r, name in named.items() if name == row]
    if not rows:
        known = list(dict.fromkeys([*named.values(), *table.rows]))
        raise CrossrecError(f"the table has no row {row!r}{nearest(row, known)}")
    metrics = list(dict.fromkeys(c.metric for c in table.columns))
    if metric not in metrics:
        raise CrossrecError(f"the table has no metric {metric!r}{nearest(metric, metrics)}")
    lines = []
    for name, column in product(rows, [c for c in table.columns if c.metric == metric]):
        cell = table.cells[name, column]
        where = " ".join(filter(None, (column.data, column.domain, column.metric)))
        mean = "not run" if cell.mean is None else f"mean {cell.mean!r} of {len(cell.values)} of {cell.expected} seeds"
        lines.append(f"{name}, {where}: {mean}")
        for value in cell.values:
            run = RunFolder(Path(value.run))
            lines += [
                f"  seed {value.seed}: {value.value!r}",
                f"    run      {run.path}",
                f"    config   {run.config_path}",
                f"    revision {run.versions.get('git') or 'unknown (not a checkout)'}",
                f"    command  {run.line()}",
            ]
    return lines
