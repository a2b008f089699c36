"""A CSV log that a resumed run goes on with."""

from __future__ import annotations

import csv
import os
from pathlib import Path

from pytorch_lightning.loggers import CSVLogger


def go_on(logger: CSVLogger, step: int) -> None:
    """Keep the rows that the broken run wrote before ``step``; by itself the logger would delete the file.

    Args:
        logger: not yet used.
        step: optimizer steps that the resumed run starts from.
    """
    path = Path(logger.log_dir) / "metrics.csv"
    if not path.is_file():
        return
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        names = list(reader.fieldnames or [])
        rows = [row for row in reader if row.get("step") and int(row["step"]) < step]
    writer = logger.experiment  # deletes the file
    temporary = path.with_suffix(".tmp")
    with open(temporary, "w", newline="") as file:
        kept = csv.DictWriter(file, fieldnames=names)
        kept.writeheader()
        kept.writerows(rows)
    os.replace(temporary, path)
    writer.metrics_keys = names
