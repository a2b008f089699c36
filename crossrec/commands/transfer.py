"""``crossrec transfer``: which domains and users training on several domains helped, and which it hurt."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossrec.commands.compare import RUNS, found

if TYPE_CHECKING:
    import polars as pl

    from crossrec.runs.store import RunFolder
    from crossrec.studies.transfer import DomainTransfer, Transfer
    from crossrec.studies.user_groups import Group

HEADER = ("users", "training rows", "n", "target_only", "run", "gain", "gain %", "95% interval")
GROUPS = {"all": "all", "activity": "by rows in {}", "overlap": "by rows in other domains"}


def main(arguments: list[str]) -> None:
    """Print and write what transfer gave each domain's users."""
    parser = argparse.ArgumentParser(
        prog="crossrec transfer",
        description="Compare a run that trains on several domains with its target_only twins: the runs that are equal "
        "but train on one domain alone. Several runs are seeds of one config. Writes transfer.json into the first "
        "run's folder.",
        epilog="example: crossrec transfer runs/synthetic-mmd-* -m recall@10 -o transfer.csv -o transfer.md",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder, or the id of a run below runs/")
    parser.add_argument(
        "--against", nargs="+", default=[], metavar="TWIN",
        help="target_only runs, of any budget (default: found beside the runs, of the same one)",
    )  # fmt: skip
    parser.add_argument("-m", "--metric", help="metric of single users (default: what the run selects by)")
    parser.add_argument(
        "-o", "--output", type=Path, action="append", default=[], metavar="FILE",
        help="write all numbers to FILE.csv, or the report to FILE.md; may be given twice",
    )  # fmt: skip
    options = parser.parse_args(arguments)

    from crossrec.errors import CrossrecError
    from crossrec.runs.store import write_frame, write_json, write_text
    from crossrec.studies.transfer import transfer

    for file in options.output:
        if file.suffix not in (".csv", ".md"):
            raise CrossrecError(f"-o is {file}: end its name in .csv or .md")
    made = transfer([found(word) for word in options.runs], [found(word) for word in options.against], options.metric)
    first = next(iter(made.runs.values()))
    if not made.domains:
        print("\n".join(_missing(made)))
        raise CrossrecError(
            f"no domain of {first.id} has a finished target_only twin in {first.path.parent}: train one by a line "
            "above, or name one that lies elsewhere by --against"
        )
    _print(made)
    write_json(first.path / "transfer.json", record(made))
    for file in options.output:
        if file.suffix == ".csv":
            write_frame(frame(made), file)
        else:
            write_text(file, markdown(made))
    print("written: " + ", ".join(str(file) for file in (first.path / "transfer.json", *options.output)))


def sentence(made: DomainTransfer, metric: str) -> str:
    """Say what transfer did to a domain."""
    whole = made.groups[0]
    says = {
        "helped": f"Transfer helped {made.domain}",
        "hurt": f"Transfer hurt {made.domain}",
        "no difference": f"Transfer made no difference in {made.domain} that users show",
    }[made.verdict]
    inner = [_percent(whole)] if whole.relative is not None else []
    inner += [f"95% interval {_interval(whole)}"] if whole.low is not None else []
    return f"{says}: {_signed(whole.gain)} {metric} ({', '.join([*inner, f'p {_p(made.p_holm)}'])})."


def shares(made: DomainTransfer) -> str:
    """Say how many users were helped and hurt, and what each seed gave."""
    n = made.groups[0].users
    parts = [
        f"{count / n:.1%} {name}"
        for name, count in (("helped", made.helped), ("hurt", made.hurt), ("unchanged", made.unchanged))
    ]
    seeds = ", ".join(f"seed {seed} {_signed(gain)}" for seed, gain in made.by_seed.items())
    split = " Seeds differ in sign." if min(made.by_seed.values()) < 0 < max(made.by_seed.values()) else ""
    return f"Users of {made.domain}: {', '.join(parts)}. Gain by seed: {seeds}.{split}"


def frame(made: Transfer) -> pl.DataFrame:
    """Every number: a row for each domain and group of users; those of the whole domain in its first row."""
    import polars as pl

    rows = []
    for d in made.domains:
        for g in d.groups:
            row: dict[str, Any] = {"domain": d.domain, "metric": made.metric, **vars(g), "relative": g.relative}
            whole = g.by == "all"
            for name in ("p", "p_holm", "helped", "unchanged", "hurt", "verdict"):
                row[name] = getattr(d, name) if whole else None
            row["seeds"] = " ".join(str(seed) for seed in sorted(d.twins))
            rows.append(row)
    return pl.DataFrame(rows, infer_schema_length=None)


def record(made: Transfer) -> dict[str, Any]:
    """Contents of transfer.json."""
    domains = {}
    for d in made.domains:
        values = {k: v for k, v in vars(d).items() if k not in ("domain", "groups")}
        groups = [{**vars(g), "relative": g.relative} for g in d.groups]
        domains[d.domain] = {**values, "verdict": d.verdict, "groups": groups}
    missing = [{"domain": m.domain, "seed": m.run.config["seed"], "line": m.line} for m in made.missing]
    return {
        "runs": {seed: run.id for seed, run in made.runs.items()},
        "metric": made.metric,
        "domains": domains,
        "missing": missing,
    }


def notes(made: Transfer) -> list[str]:
    """Sentences below the tables."""
    n = len(made.domains)
    said = [
        "gain: run - target_only, the mean over users; interval: percentile bootstrap over users; p: two-sided paired "
        f"permutation test over users, Holm-corrected over {n} domain{'s' * (n > 1)}. Helped or hurt: the interval "
        "leaves zero out and p is below 0.05. Groups are not tested, and their intervals not corrected for being many.",
    ]
    if len(made.runs) == 1:
        said.append("One seed: intervals and p are over users, and say nothing of how another seed would come out.")
    else:
        said.append(
            "A user's values are averaged over seeds first: intervals and p are over users, and how far seeds agree is "
            "in the gains by seed."
        )
    for d in made.domains:
        if d.domain not in made.selected:
            said.append(
                f"The run's epoch was selected in {', '.join(made.selected)}, the twin's in {d.domain}: part of the "
                f"gain in {d.domain} may be of that."
            )
        for key, (run, twin) in d.budget.items():
            both = f"{key} is {run} in the run and {twin} in the twin"
            said.append(f"{d.domain}: {both}: part of the gain in {d.domain} may be of that.")
        for key, (run, twin) in d.differ.items():
            said.append(f"{d.domain}: {key} is {run} in the run, as its strategy has it, and {twin} in the twin.")
    return said


def markdown(made: Transfer) -> str:
    """The report as Markdown."""
    lines = [f"# Transfer: {', '.join(run.id for run in made.runs.values())}", ""]
    for d in made.domains:
        lines += [f"## {d.domain}", "", sentence(d, made.metric), "", shares(d), "", f"Against {_twins(d)}.", ""]
        lines += [_line(HEADER), _line(["---", "---", *["---:"] * (len(HEADER) - 2)])]
        lines += [*(_line(row) for row in rows(d)), ""]
    for text in _missing(made):
        lines += [f"    {text.strip()}" if text.startswith(" ") else text, ""]
    return "\n".join([*lines, *(f"{note}\n" for note in notes(made))])


def rows(made: DomainTransfer) -> list[tuple[str, ...]]:
    """Lines of a domain's table."""
    return [
        (
            GROUPS[g.by].format(made.domain), _bounds(g), f"{g.users:,}", f"{g.twin:.4f}", f"{g.run:.4f}",
            _signed(g.gain), _percent(g), _interval(g),
        )
        for g in made.groups
    ]  # fmt: skip


def _print(made: Transfer) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=max(Console().width, 120))
    for d in made.domains:
        table = Table(title=Text(f"{d.domain}: {made.metric} against {_twins(d)}"), title_justify="left")
        for at, name in enumerate(HEADER):
            table.add_column(name, justify="left" if at < 2 else "right")
        before = "all"
        for group, row in zip(d.groups, rows(d)):
            if group.by != before:
                table.add_section()
            before = group.by
            table.add_row(*(Text(cell) for cell in row))
        console.print(table, soft_wrap=True)
        for text in (sentence(d, made.metric), shares(d), ""):
            console.print(Text(text), soft_wrap=True)
    for text in (*_missing(made), *notes(made)):
        console.print(Text(text), soft_wrap=True)


def _missing(made: Transfer) -> Iterable[str]:
    """Sentences on twins that there are not, each followed by an indented command line."""
    for m in made.missing:
        near = f" ({m.near})" if m.near else ""
        yield f"{m.domain}: no finished target_only twin of {m.run.id}{near}. This line trains it:"
        yield f"  {m.line}"
    if made.nameable:
        yield "This line takes runs of another budget as twins:"
        runs, twins = ([_word(run) for run in some] for some in (made.runs.values(), made.nameable))
        yield f"  {shlex.join(['crossrec', 'transfer', *runs, '--against', *twins])}"


def _word(run: RunFolder) -> str:
    """What names a run on the command line: its id where it lies below ``runs/``, else its folder."""
    return run.id if (RUNS / run.id).resolve() == run.path.resolve() else str(run.path)


def _twins(made: DomainTransfer) -> str:
    return ", ".join(f"{run} (seed {seed})" for seed, run in sorted(made.twins.items()))


def _bounds(group: Group) -> str:
    if group.least is None or group.most is None:
        return ""
    least, most = (f"{round(value, 2):g}" for value in (group.least, group.most))
    return least if least == most else f"{least} to {most}"


def _percent(group: Group) -> str:
    return "-" if group.relative is None else f"{round(group.relative, 3) + 0.0:+.1%}"


def _interval(group: Group) -> str:
    return "-" if group.low is None or group.high is None else f"{_signed(group.low)} to {_signed(group.high)}"


def _signed(value: float) -> str:
    """Four decimals and a sign; what rounds to zero is positive."""
    return f"{round(value, 4) + 0.0:+.4f}"


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.001 else f"{value:.1e}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
