"""``crossrec evaluate``: a finished run's selected checkpoint again, under another protocol."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

SELECTING = ("evaluation.monitor", "evaluation.valid_queries")
"""Keys that only the selection of an epoch reads."""


def main(arguments: list[str]) -> None:
    """Evaluate a run on its test rows and write ``evaluations/<hash>.json`` into its folder."""
    parser = argparse.ArgumentParser(
        prog="crossrec evaluate",
        description="Evaluate the selected checkpoint of a finished run on its test rows.",
        epilog="example: crossrec evaluate runs/movielens-cmf-0123456789ab evaluation=sampled_99 'evaluation.ks=[1,5]'",
    )
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("overrides", nargs="*", help="overrides of the evaluation group; none repeats the run's own")
    options = parser.parse_args(arguments)

    from crossrec.runs.assemble import load_run
    from crossrec.runs.evaluator import evaluator
    from crossrec.runs.results import write_candidates
    from crossrec.runs.store import RunFolder, write_json
    from crossrec.runs.train import quiet

    quiet()
    config = RunFolder.existing(options.run).config
    evaluation = evaluation_of(config, options.overrides)
    run, parts = load_run(options.run, evaluation)
    parts.datamodule.check_candidates("test")
    trainer = evaluator(config)
    trainer.test(parts.model, datamodule=parts.datamodule, verbose=False)
    name = hashlib.sha256(json.dumps(evaluation, sort_keys=True).encode()).hexdigest()[:12]
    record: dict[str, Any] = {"evaluation": evaluation, "test": parts.model.results}
    record |= write_candidates(run.path / "evaluations" / f"{name}.safetensors", parts.datamodule)
    write_json(run.path / "evaluations" / f"{name}.json", record)
    _print(run.id, evaluation, parts.model.results)
    print(f"written: {run.path / 'evaluations' / (name + '.json')}")


def evaluation_of(config: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Evaluation group of a run with overrides; only that group may change.

    Raises:
        CrossrecError: an override of something else, or of what only training reads.
    """
    from crossrec.config import compose, plain
    from crossrec.errors import CrossrecError

    for word in overrides:
        key, equals, _ = word.partition("=")
        if key.split(".")[0] != "evaluation":
            raise CrossrecError(f"{word!r} does not belong to the evaluation group; train another run for that")
        if not equals:
            raise CrossrecError(f"{word!r} is not an override: write key=value, as in evaluation=sampled_99")
        if key in SELECTING:
            raise CrossrecError(
                f"{word} has no effect, because a run's epoch was selected when it trained: leave it out, or train "
                "another run for that"
            )
    if not overrides:
        return dict(config["evaluation"])
    chosen = any(word.startswith("evaluation=") for word in overrides)
    evaluation = dict(plain(compose(overrides).evaluation))
    if chosen:
        return evaluation
    named = {word.partition("=")[0].split(".")[1] for word in overrides}
    return {**config["evaluation"], **{key: evaluation[key] for key in named}}


def _print(run_id: str, evaluation: dict[str, Any], results: dict[str, float]) -> None:
    from rich.console import Console
    from rich.table import Table

    from crossrec.runs.summary import domain_rows

    rows = domain_rows(results)
    names = sorted(next(iter(rows.values())))
    table = Table(title=f"{run_id}: test, {evaluation['protocol']}", title_justify="left")
    table.add_column("metric")
    for domain in rows:
        table.add_column(domain, justify="right")
    for name in names:
        table.add_row(name, *(f"{row[name]:.4f}" if name in row else "" for row in rows.values()))
    Console().print(table)
