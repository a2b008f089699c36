"""What a model measures, and where a run keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossrec.runs.store import RunFolder, write_frame, write_json


def measure(trainer: Any, model: Any, data: Any, record: dict[str, Any]) -> dict[int, Any]:
    """Validate and test a model: its metrics go into ``record``; domain index -> test metrics of its users."""
    trainer.validate(model, datamodule=data, verbose=False)
    record["valid"] = model.results
    trainer.test(model, datamodule=data, verbose=False)
    record["test"] = model.results
    return {index: model.users_table(index) for index in data.eval_indices}


def write_results(run: RunFolder, record: dict[str, Any], data: Any, tables: Mapping[int, Any]) -> None:
    """Write what a run measured: metrics, of each test user too, and the sampled candidates.

    Args:
        run: where.
        record: metrics.json, to which the candidates' hash and the split's report are added.
        data: the DataModule.
        tables: domain index -> test metrics of its users.
    """
    for index, table in tables.items():
        path = run.path / "per_user" / f"{data.corpus.domains[index].name}.parquet"
        names = data.corpus.users["name"]
        write_frame(table.with_columns(names[table["user"]].alias("name")), path)
    record |= write_candidates(run.path / "candidates.safetensors", data)
    record["split"] = data.split_report()
    write_json(run.path / "metrics.json", record)


def write_candidates(path: Path, data: Any) -> dict[str, Any]:
    """Write the candidates that the test sampled, where it did; their hash and what was short, for a record."""
    from crossrec.evaluation.protocols import candidate_hash, save_candidates

    entries: dict[str, Any] = {}
    if candidates := data.candidates("test"):
        save_candidates(path, candidates)
        entries["candidates"] = candidate_hash(candidates)
    if short := data.short_of_candidates():
        entries["short_of_candidates"] = short
    return entries
