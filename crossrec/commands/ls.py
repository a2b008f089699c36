"""``crossrec ls``: config groups, the options of one, or runs."""

from __future__ import annotations

from pathlib import Path

from crossrec.commands.train import split_config_dirs
from crossrec.config import GROUPS, option_files, options
from crossrec.errors import CrossrecError

USAGE = """usage: crossrec ls [GROUP] [--config-dir DIR ...]
       crossrec ls runs [FOLDER] [--csv FILE]

Without an argument: the config groups. With one: its options, a line each; one that an installed package or a folder of
--config-dir brings is marked with its name.
`runs`: the runs below FOLDER (default: runs); --csv writes their test metrics to a .csv file, a row for each run,
domain and metric."""


def main(arguments: list[str]) -> None:
    """Print the list asked for."""
    if any(a in ("-h", "--help") for a in arguments):
        print(USAGE)
        return
    if arguments[:1] == ["runs"]:
        _runs(arguments[1:])
        return
    folders, words = split_config_dirs(arguments)
    if not words:
        for group in GROUPS:
            names = [f"{n} ({o})" if o else n for n, (o, _) in option_files(group, folders).items()]
            print(f"{group:<14} {', '.join(names)}")
        return
    group, *more = words
    if more:
        raise CrossrecError(f"`crossrec ls` takes one group, not {' '.join(words)!r}")
    if group not in GROUPS:
        from crossrec.suggestions import nearest

        raise CrossrecError(f"no config group {group!r}{nearest(group, GROUPS)}")
    files = option_files(group, folders)
    for name, text in options(group, folders).items():
        owner = files[name][0]
        print(f"{name:<18} {f'[{owner}] ' if owner else ''}{text}")


def _runs(arguments: list[str]) -> None:
    from crossrec.runs.summary import find_runs, print_runs, runs_frame

    table: Path | None = None
    if "--csv" in arguments:
        at = arguments.index("--csv")
        if at + 1 == len(arguments) or not arguments[at + 1].endswith(".csv"):
            raise CrossrecError("--csv needs the name of a file to write that ends in .csv")
        table = Path(arguments[at + 1])
        arguments = arguments[:at] + arguments[at + 2 :]
    folder = Path(arguments[0] if arguments else "runs")
    found = find_runs(folder)
    if not found:
        raise CrossrecError(f"no runs below {folder}; `crossrec train` makes one")
    if table is None:
        print_runs(found)
        return
    from crossrec.runs.store import write_frame

    if not any(run.finished for run in found):
        raise CrossrecError(f"no finished run below {folder}; `crossrec ls runs {folder}` lists their states")
    frame = runs_frame(found)
    write_frame(frame, table)
    print(f"{frame.height} rows of {frame['run'].n_unique()} runs written to {table}")
