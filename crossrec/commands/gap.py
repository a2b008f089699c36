"""``crossrec gap``: how far apart a run's domains are, before and after training."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from crossrec.commands.compare import found

if TYPE_CHECKING:
    import polars

    from crossrec.evaluation.gap import Gap
    from crossrec.runs.gap import RunGap

NOTES = (
    "MMD^2: unbiased, Gaussian kernel at the median distance, 95% interval by bootstrap over ids; p: permutation of "
    "the domains' labels, not corrected for several pairs.",
    "CORAL: squared distance of covariances / 4 f^2; 1 / (2 rows) of it is sampling. PAD: proxy A-distance "
    "2 (1 - 2 err) of a linear classifier on held-out ids, 0 to 2; its sampling error is about 2 / sqrt(all rows / 2).",
    "All on vectors divided by their pooled deviation. rows: users or items with training rows in each domain; shared: "
    "ids in both, whose vectors are equal where they do not depend on the domain.",
)


def main(arguments: list[str]) -> None:
    """Print the gap of every pair of training domains, and write it into the run folders."""
    parser = argparse.ArgumentParser(
        prog="crossrec gap",
        description="Measure how far apart the training domains' users and items are, before training and at the "
        "selected epoch. Writes gap.json and gap.png into each run's folder. Of a study, every finished run not yet "
        "measured; its table shows them where the study has `reports: [gap]`.",
        epilog="examples: crossrec gap runs/synthetic-merged-* runs/synthetic-mmd-* -o gaps.csv; crossrec gap my.yaml",
    )
    parser.add_argument(
        "runs", nargs="+", metavar="RUN | STUDY [KEY=VALUE]",
        help="run folder, or the id of a run below runs/; or a study file and the overrides it was swept with",
    )  # fmt: skip
    parser.add_argument(
        "--rows", type=int, default=1000, metavar="N", help="most users, and items, of each domain (default: 1000)"
    )
    parser.add_argument(
        "--picture", choices=("pca", "umap"), default="pca", help="projection of gap.png (default: pca)"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.csv", help="write the numbers of all runs there")
    parser.add_argument(
        "--config-dir", type=Path, action="append", default=[], help="of a study: folder of configs of your own"
    )
    options = parser.parse_intermixed_args(arguments)

    from rich.console import Console
    from rich.progress import track

    from crossrec.errors import CrossrecError
    from crossrec.runs.gap import measure, write
    from crossrec.runs.store import write_frame
    from crossrec.studies.gap_plot import check, draw

    if options.output is not None and options.output.suffix != ".csv":
        raise CrossrecError(f"-o is {options.output}: end its name in .csv")
    without: CrossrecError | None = None
    try:
        check(options.picture)
    except CrossrecError as error:
        if options.picture == "umap":
            raise
        without = error
    if Path(options.runs[0]).suffix in (".yaml", ".yml"):
        _measure_study(options, picture=without is None)
        return
    if options.config_dir:
        raise CrossrecError("--config-dir is for a study; a run knows its configs")
    folders = list(dict.fromkeys(found(word).resolve() for word in options.runs))
    console = Console(stderr=True)
    measured = [
        measure(folder, options.rows)
        for folder in track(folders, "measuring", console=console, transient=True, disable=not console.is_terminal)
    ]
    files = []
    for made in measured:
        files.append(write(made))
        if without is None:
            files.append(draw(made, options.picture))
    if options.output is not None:
        write_frame(frame(measured), options.output)
        files.append(options.output)
    _print(measured)
    if without is not None:
        print(f"no gap.png: {without}")
    print("written: " + ", ".join(str(file) for file in files))


def _measure_study(options: argparse.Namespace, picture: bool) -> None:
    """Measure the runs of a study that lack it, one after the other; each is written before the next one begins."""
    from crossrec.errors import CrossrecError
    from crossrec.runs.gap import measure, write
    from crossrec.studies.gap_plot import draw
    from crossrec.studies.selection import select
    from crossrec.studies.unmeasured import standing

    study, *words = options.runs
    if options.output is not None:
        raise CrossrecError(f"-o is for runs; `crossrec table {study} -o FOLDER` writes the gaps of a study")
    for word in words:
        if "=" not in word:
            raise CrossrecError(f"{word!r} is not an override of {study}: write key=value, or give runs alone")
    chosen = select(study, words, options.config_dir)
    runs = standing(chosen.jobs)
    failed = 0
    for at, run in enumerate(runs.missing, 1):
        try:
            made = measure(run.path, options.rows)
        except CrossrecError as error:
            failed += 1
            print(f"{at}/{len(runs.missing)} not measured: {error}")
            continue
        write(made)
        if picture:
            draw(made, options.picture)
        pairs = ", ".join(f"{p.space} {' - '.join(p.pair)} {_change(p.before, p.after)}" for p in made.pairs)
        print(f"{at}/{len(runs.missing)} {run.id}: MMD^2 of {pairs}", flush=True)
    print(
        f"{len(runs.measured) + len(runs.missing) - failed} runs measured, {len(runs.without)} without a gap (not "
        f"trained, or on one domain), {len(runs.unfinished)} not finished"
    )
    if failed:
        raise CrossrecError(f"{failed} runs were not measured; the same line tries them again")
    if "gap" in chosen.study.reports:
        print(f"the table: crossrec table {shlex.join([study, *words])}")
    else:
        print(f"the table shows them where {study} has `reports: [gap]`")


def _change(before: Gap, after: Gap) -> str:
    return f"{_number(before.mmd)} -> {_number(after.mmd)}"


def frame(measured: Sequence[RunGap]) -> polars.DataFrame:
    """Numbers of all runs, a row for each run, space, pair and stage (``before`` or ``after`` training)."""
    from dataclasses import asdict

    import polars as pl

    rows = [
        {
            "run": made.run.id, "space": p.space, "domain_a": p.pair[0], "domain_b": p.pair[1], "rows_a": p.rows[0],
            "rows_b": p.rows[1], "shared": p.shared, "stage": stage, **asdict(gap),
        }
        for made in measured
        for p in made.pairs
        for stage, gap in (("before", p.before), ("after", p.after))
    ]  # fmt: skip
    return pl.DataFrame(rows)


def _print(measured: Sequence[RunGap]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title="domain gap, before and after training", title_justify="left")
    for name in ("run", "space", "pair", "rows"):
        table.add_column(name)
    for name in ("MMD^2", "p", "CORAL", "PAD"):
        for stage in ("before", "after"):
            table.add_column(f"{name}\n{stage}", justify="right")
    for made in measured:
        for p in made.pairs:
            size = f"{p.rows[0]} + {p.rows[1]}" + (f", {p.shared} shared" if p.shared else "")
            cells = [cell for both in zip(_cells(p.before), _cells(p.after)) for cell in both]
            table.add_row(*(Text(cell) for cell in (made.run.id, p.space, " - ".join(p.pair), size, *cells)))
    console = Console(width=max(Console().width, 190))
    console.print(table, soft_wrap=True)
    for text in dict.fromkeys(made.users for made in measured):
        ids = [made.run.id for made in measured if made.users == text]
        console.print(Text(f"users of {', '.join(ids)}: {text}."), soft_wrap=True)
    for note in NOTES:
        console.print(Text(note), soft_wrap=True)


def _cells(gap: Gap) -> tuple[str, str, str, str]:
    mmd = f"{_number(gap.mmd)} [{_number(gap.low)}, {_number(gap.high)}]"
    return mmd, f"{gap.p:.3f}", f"{gap.coral:.2g}", f"{gap.pad:.2f}"


def _number(value: float) -> str:
    return f"{round(value, 4) + 0.0:.4f}"
