"""``crossrec table``: the table of a study, or of a folder of runs."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from crossrec.commands.sweep import whole_numbers
from crossrec.errors import CrossrecError

if TYPE_CHECKING:
    from crossrec.studies.selection import Selection
    from crossrec.studies.table import Table

FORMATS = {"markdown": "md", "latex": "tex", "csv": "csv", "html": "html"}


def main(arguments: list[str]) -> None:
    """Aggregate finished runs and print or write the table."""
    parser = argparse.ArgumentParser(
        prog="crossrec table",
        description="The table of a study's finished runs (or of a folder of runs, or of a `crossrec train -m` grid): "
        "mean and deviation over seeds, published values, transfer gain and significance against the baseline row.",
        epilog="example: crossrec table experiments/quickstart.yaml -o table",
        allow_abbrev=False,
    )
    parser.add_argument("study", type=Path, help="study file, or a folder")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="overrides of every run, as given to `sweep`")
    parser.add_argument("--format", choices=["terminal", *FORMATS], default="terminal", help="what to print")
    parser.add_argument("-o", "--output", type=Path, help="folder to write the table in every format and the plots to")
    parser.add_argument(
        "--with-runs",
        action="store_true",
        help="with -o: also write the runs' records, without weights, to FOLDER/runs",
    )
    parser.add_argument(
        "--recorded", type=Path, metavar="FOLDER", help="take what is not finished here from the records in FOLDER/runs"
    )
    parser.add_argument(
        "--rows", action="append", help="only these rows, separated by commas; may be repeated, for names with a comma"
    )
    parser.add_argument("--seeds", type=whole_numbers, help="only these seeds of the study, separated by commas")
    parser.add_argument("--config-dir", type=Path, action="append", default=[], help="folder of configs of your own")
    parser.add_argument(
        "--metrics", type=lambda text: text.split(","), help="of a folder: columns, such as hit@5,mrr@10"
    )
    parser.add_argument("--baseline", help="of a folder: the row that others are compared with")
    parser.add_argument("--no-significance", action="store_true", help="leave out the tests over users")
    parser.add_argument(
        "--trace",
        nargs=2,
        metavar=("ROW", "METRIC"),
        help="name the runs behind a row's numbers, or behind those of all values of a row with `over`",
    )
    parser.add_argument("--wandb", action="store_true", help="with -o: log the table and the files to W&B")
    given = parser.parse_intermixed_args(arguments)

    if given.with_runs and given.output is None:
        raise CrossrecError("--with-runs writes the records beside the table: add -o FOLDER")
    if given.output is not None and given.output.suffix.lstrip(".") in FORMATS.values():
        raise CrossrecError(
            f"-o {given.output} is to be a folder, for the table in every format: name one, or print one format into a "
            f"file, as in --format markdown > {given.output}"
        )
    table, chosen = _table(given)
    if given.trace:
        from crossrec.studies.trace import trace

        print("\n".join(trace(table, *given.trace)))
        return
    if given.format == "terminal":
        from crossrec.studies.render import print_table

        print_table(table)
    else:
        sys.stdout.write(_render(table, given.format))
    if given.output is not None:
        files = write(table, given.output)
        print(f"written: {', '.join(f.name for f in files)} in {given.output}", file=sys.stderr)
        if given.with_runs and chosen is not None:
            _write_records(chosen, given.output)
        if given.wandb:
            _upload(table, files, given.output)
    elif given.wandb:
        raise CrossrecError("--wandb logs what -o writes: add -o FOLDER")


def _table(given: argparse.Namespace) -> tuple[Table, Selection | None]:
    """The table, and of a study what it is made of."""
    from crossrec.studies.collect import collect

    compared = not given.no_significance
    if given.study.is_dir():
        if given.words or given.rows or given.seeds or given.config_dir or given.recorded or given.with_runs:
            raise CrossrecError(
                "overrides, --rows, --seeds, --config-dir, --recorded and --with-runs are for study files; a folder "
                "has its runs already"
            )
        from crossrec.studies.adhoc import grid

        return collect(*grid(given.study, given.metrics, given.baseline), significance=compared), None
    if given.metrics or given.baseline:
        raise CrossrecError("--metrics and --baseline are for folders; a study file names its own")
    from crossrec.studies.selection import select

    chosen = select(given.study, given.words, given.config_dir, given.rows, given.seeds, given.recorded)
    table = collect(chosen.study, chosen.jobs, significance=compared)
    return replace(table, notes=(*table.notes, *chosen.notes)), chosen


def _write_records(chosen: Selection, folder: Path) -> None:
    from crossrec.studies.records import write_records

    written = write_records(chosen.jobs, folder, chosen.study.metrics)
    size = sum(file.stat().st_size for run in written for file in run.path.rglob("*") if file.is_file())
    print(f"records of {len(written)} runs in {folder / 'runs'}: {size / 1000:,.0f} kB", file=sys.stderr)
    names = {run.id for run in written}
    others = [path.parent.name for path in sorted((folder / "runs").glob("*/config.yaml"))]
    if other := [name for name in others if name not in names]:
        print(f"records of runs that are not of this table: {', '.join(other)}", file=sys.stderr)


def _render(table: Table, name: str) -> str:
    from crossrec.studies.html import html
    from crossrec.studies.latex import latex
    from crossrec.studies.render import csv, markdown

    return {"markdown": markdown, "latex": latex, "csv": csv, "html": html}[name](table)


def write(table: Table, folder: Path) -> list[Path]:
    """Write a table in every format, and its plots, to a folder; each file is renamed into its place."""
    from crossrec.runs.store import write_text
    from crossrec.studies.plots import draw

    files = []
    for name, ending in FORMATS.items():
        files.append(folder / f"table.{ending}")
        write_text(files[-1], _render(table, name))
    return files + draw(table, folder, lambda text: print(text, file=sys.stderr))


def _upload(table: Table, files: list[Path], folder: Path) -> None:
    from crossrec.studies.upload import log_table

    project = os.environ.get("WANDB_PROJECT", "crossrec")
    log_table(table, files, project=project, group=table.name, offline=None, folder=folder)
