"""``crossrec recommend``: ranked lists of a finished run, with titles."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars


def main(arguments: list[str]) -> None:
    """Write or print the top k items per user."""
    parser = argparse.ArgumentParser(
        prog="crossrec recommend",
        description="Top-k items per user from a finished run's selected checkpoint.",
        epilog="example: crossrec recommend runs/food_kitchen-mmd-0123456789ab --domain food"
        " --history 'B002IYDXW8; B000BIZT3E'",
    )
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("-k", type=int, default=10, help="items per user (default 10)")
    parser.add_argument("--domain", help="domain to recommend in (default: the run's target, or every trained domain)")
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--user", action="append", metavar="NAME", help="a user by name; may be repeated (default: all)")
    who.add_argument("--users-file", type=Path, help="text file with a user name a line")
    who.add_argument("--history", help="item names or titles, oldest first, separated by ';': recommend for a new user")
    parser.add_argument("--include-seen", action="store_true", help="also recommend what the user already has")
    parser.add_argument(
        "-o", "--output", type=Path, help="file to write: .csv, .parquet or .json (default: the terminal)"
    )
    options = parser.parse_args(arguments)

    from crossrec.errors import CrossrecError
    from crossrec.runs.recommend import recommend_history, recommend_users
    from crossrec.runs.store import write_frame

    if options.k < 1:
        raise CrossrecError(f"-k is {options.k}; it must be at least 1")
    if options.output is not None and options.output.suffix not in (".csv", ".parquet", ".json"):
        raise CrossrecError(f"cannot tell the format of {options.output}: end its name in .csv, .parquet or .json")
    if options.history is not None:
        names = [part.strip() for part in options.history.split(";") if part.strip()]
        frame = recommend_history(options.run, names, options.k, options.domain, exclude_seen=not options.include_seen)
    else:
        names = options.user
        if options.users_file is not None:
            if not options.users_file.exists() or options.users_file.is_dir():
                raise CrossrecError(f"no file {options.users_file}")
            names = [line.strip() for line in options.users_file.read_text().splitlines() if line.strip()]
            if not names:
                raise CrossrecError(f"{options.users_file} names no user: give a name a line, or leave it out for all")
        frame = recommend_users(options.run, names, options.k, options.domain, exclude_seen=not options.include_seen)
    if options.output is None:
        _print(frame)
    else:
        write_frame(frame, options.output)
        print(f"{frame.height} rows for {frame['user'].n_unique()} users written to {options.output}")


def _print(frame: polars.DataFrame) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for name in frame.columns:
        table.add_column(name, overflow="fold")
    shown = frame.head(200)
    for row in shown.iter_rows():
        table.add_row(*(f"{v:.4f}" if isinstance(v, float) else "" if v is None else str(v) for v in row))
    Console().print(table)
    if shown.height < frame.height:
        print(f"... {frame.height - shown.height} more rows; write them all with --output FILE.csv")
