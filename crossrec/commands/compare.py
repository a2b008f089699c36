"""``crossrec compare``: finished runs side by side."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from crossrec.studies.compare import RunComparison

LONG = 32
"""Characters of a config value; the middle of longer ones is left out."""

RUNS = Path("runs")


class Grid(NamedTuple):
    """A table of text: the terminal's and Markdown's alike."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    left: int  # columns that are words, not numbers


def main(arguments: list[str]) -> None:
    """Print what differs between runs, and write it with the learning curves."""
    parser = argparse.ArgumentParser(
        prog="crossrec compare",
        description="Finished runs side by side: config differences, test metrics, and per user against the first run.",
        epilog="example: crossrec compare runs/synthetic-target_only-* runs/synthetic-mmd-* -m recall@10 -o comparison",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder, or the id of a run below runs/")
    parser.add_argument(
        "-m", "--metric", help="metric of the users' comparison (default: what the first run selects by)"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER",
        help="write compare.md, compare.csv (every metric) and learning_curves.png and .pdf there",
    )  # fmt: skip
    options = parser.parse_args(arguments)

    from crossrec.studies.canvas import new_figure
    from crossrec.studies.compare import compare_runs

    if options.output is not None:
        new_figure()  # a missing matplotlib is told before anything is computed
    made = compare_runs([found(word) for word in options.runs], options.metric)
    _print(grids(made), notes(made))
    if options.output is not None:
        files = write(made, options.output)
        print(f"written: {', '.join(str(f) for f in files)}")


def found(word: str, root: Path = RUNS) -> Path:
    """Folder of a run that is named by its folder or by its id.

    Raises:
        CrossrecError: there is neither.
    """
    from crossrec.errors import CrossrecError
    from crossrec.suggestions import nearest

    for path in (Path(word), root / word):
        if path.is_dir():
            return path
    known = [p.parent.name for p in root.glob("*/config.yaml")]
    raise CrossrecError(f"no run folder {word} and no run of that id below {root}/{nearest(word, known)}")


def grids(made: RunComparison) -> list[Grid]:
    """Lay a comparison out: the runs, their configs, their test metrics, their users."""
    from crossrec.runs.summary import SHOWN

    labels = tuple(made.runs)
    first = labels[0]
    runs = [(label, run.id, _short(made.words[label], 80)) for label, run in made.runs.items()]
    config = [(key, *(_value(key, text) for text in row)) for key, row in made.config.items()]
    tests = [
        (domain, metric, *(_number(v, row[0] if at else None) for at, v in enumerate(row)))
        for (domain, metric), row in made.test.items()
        if metric in SHOWN or metric == made.metric
    ]
    users = [
        (
            f"{p.label} - {first}", p.domain, *(f"{n:,}" for n in (p.wins, p.ties, p.losses)), f"{p.difference:+.4f}",
            f"{p.low:+.4f} to {p.high:+.4f}", _p(p.p), _p(p.p_holm),
        )
        for p in made.paired
    ]  # fmt: skip
    columns = ("runs", "domain", "wins", "ties", "losses", "mean difference", "95% interval", "p", "p (Holm)")
    return [
        Grid("runs", ("", "run", "what the command lines differ in"), runs, 3),
        Grid("config: keys that differ", ("key", *labels), config, len(labels) + 1),
        Grid(f"test metrics (difference to {first})", ("domain", "metric", *labels), tests, 2),
        Grid(f"users: {made.metric} against {first}", columns, users, 2),
    ]


def notes(made: RunComparison) -> list[str]:
    """Sentences below the tables."""
    return [
        "p: two-sided paired permutation test over users (random sign flips); Holm: corrected over the "
        f"{len(made.paired)} comparisons above; interval: percentile bootstrap over users.",
        *made.notes,
    ]


def markdown(made: RunComparison) -> str:
    """Tables and notes as Markdown."""
    lines = []
    for grid in grids(made):
        lines += [f"## {grid.title}", ""]
        if not grid.rows:
            lines += ["none", ""]
            continue
        lines.append(_line(grid.header))
        lines.append(_line(["---" if at < grid.left else "---:" for at in range(len(grid.header))]))
        lines += [*(_line(row) for row in grid.rows), ""]
    return "\n".join(["# Runs side by side", "", *lines, *(f"{note}\n" for note in notes(made))])


def write(made: RunComparison, folder: Path) -> list[Path]:
    """Write ``compare.md``, ``compare.csv`` and the learning curves, and say which run has none; the files' paths."""
    from crossrec.runs.store import write_frame, write_text
    from crossrec.studies.compare import frame
    from crossrec.studies.compare_plots import plot_learning_curves, without_curve

    write_frame(frame(made), folder / "compare.csv")
    names = {label: _short(made.words[label] or run.id, 60) for label, run in made.runs.items()}
    pictures = plot_learning_curves(made.runs, names, folder)
    reasons = {label: without_curve(run) for label, run in made.runs.items()}
    missing = [f"No learning curve of {label}: {reason}." for label, reason in reasons.items() if reason]
    picture = [f"![learning curves]({pictures[0].name})"] if pictures else []
    write_text(folder / "compare.md", markdown(made) + "".join(f"\n{text}\n" for text in [*missing, *picture]))
    print("\n".join(missing), end="\n" * bool(missing))
    return [folder / "compare.md", folder / "compare.csv", *pictures]


def _print(tables: Sequence[Grid], sentences: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=max(Console().width, 160))
    for grid in tables:
        if not grid.rows:
            console.print(f"{grid.title}: none", soft_wrap=True)
            continue
        table = Table(title=grid.title, title_justify="left")
        for at, name in enumerate(grid.header):
            table.add_column(name, justify="left" if at < grid.left else "right")
        for row in grid.rows:
            table.add_row(*(Text(cell) for cell in row))
        console.print(table, soft_wrap=True)
    for sentence in sentences:
        console.print(Text(sentence), soft_wrap=True)


def _number(value: float | None, base: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if base is None else f"{value:.4f} ({value - base:+.4f})"


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.001 else f"{value:.1e}"


def _value(key: str, text: str) -> str:
    return _short(text.rpartition(".")[2] if key.endswith("_target_") else text or "''", LONG)


def _short(text: str, most: int) -> str:
    """Cut the middle out of a long text: paths and model names differ at their ends."""
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
