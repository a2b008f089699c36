"""Where a number of a table comes from."""

from __future__ import annotations

from pathlib import Path

from crossrec.errors import CrossrecError
from crossrec.runs.store import RunFolder
from crossrec.studies.table import Table
from crossrec.suggestions import nearest


def trace(table: Table, row: str, metric: str) -> list[str]:
    """Say for every cell of a row and metric which runs it is the mean of.

    Args:
        table: the table.
        row: name of the row.
        metric: name of the metric.

    Returns:
        Lines: the cell, then for each run its value, folder, config, git revision and command.

    Raises:
        CrossrecError: the table has no such row or metric.
    """
    if row not in table.rows:
        raise CrossrecError(f"the table has no row {row!r}{nearest(row, table.rows)}")
    metrics = list(dict.fromkeys(c.metric for c in table.columns))
    if metric not in metrics:
        raise CrossrecError(f"the table has no metric {metric!r}{nearest(metric, metrics)}")
    lines = []
    for column in table.columns:
        if column.metric != metric:
            continue
        cell = table.cells[row, column]
        where = " ".join(filter(None, (column.data, column.domain, column.metric)))
        mean = "not run" if cell.mean is None else f"mean {cell.mean!r} of {len(cell.values)} of {cell.expected} seeds"
        lines.append(f"{row}, {where}: {mean}")
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
