"""A study's table and its files, to Weights & Biases."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crossrec.runs.wandb_mirror import Mirror
from crossrec.studies.table import Cell, Table

COLUMNS = ("row", "data", "domain", "metric", "mean", "std", "n", "published", "status")


def log_table(
    table: Table,
    files: Sequence[Path],
    *,
    project: str,
    group: str | None,
    offline: bool | None,
    folder: Path,
    entity: str | None = None,
    init_timeout: float = 30.0,
    finish_timeout: float = 300.0,
) -> bool:
    """Log a table as a W&B run of job type ``table``: its cells as ``table``, its files as one artifact.

    Where W&B fails, one line on stderr says so and how to upload later; nothing is raised.

    Args:
        table: its name is the run's.
        files: such as table.md and the plots; the artifact ``<name>-table`` holds them under their own names.
        project: W&B project.
        group: such as the study's name.
        offline: None for online exactly when wandb knows an API key; ``WANDB_MODE`` wins.
        folder: gets ``wandb/``.
        entity: W&B user or team.
        init_timeout: seconds to wait for the server.
        finish_timeout: seconds to wait for the last upload.

    Returns:
        Whether all of it is where it belongs: on the server, or offline as wished.

    Raises:
        CrossrecError: wandb is not installed.
    """
    mirror = Mirror(
        folder.resolve(),
        project=project,
        name=table.name,
        config={"study": table.name, "title": table.title, "source": table.source, "protocol": table.protocol},
        entity=entity,
        group=group,
        job_type="table",
        tags=["table", table.name],
        offline=offline,
        init_timeout=init_timeout,
        finish_timeout=finish_timeout,
    )
    status = 1
    try:
        done = mirror.do("takes no table", lambda run: _log_cells(run, table))
        done = mirror.do("takes no files", lambda run: _log_files(run, table, files)) and done
        status = 0 if done else 1
    finally:
        finished = mirror.finish(status)
    return finished


def table_rows(table: Table) -> list[list[Any]]:
    """One list for each cell, in the order of the table; see :data:`COLUMNS`."""
    cells: list[Cell] = [table.cells[row, column] for row in table.rows for column in table.columns]
    return [[c.row, *c.column, c.mean, c.std, len(c.values), c.published, c.status] for c in cells]


def _log_cells(run: Any, table: Table) -> None:
    import wandb

    run.log({"table": wandb.Table(columns=list(COLUMNS), data=table_rows(table))})


def _log_files(run: Any, table: Table, files: Sequence[Path]) -> None:
    import wandb

    artifact = wandb.Artifact(re.sub(r"[^\w.-]", "-", f"{table.name}-table")[:128], type="table")
    for path in files:
        artifact.add_file(str(path), name=path.name)
    run.log_artifact(artifact)
