"""``crossrec ls``: config groups, the options of one, or runs."""

from __future__ import annotations

from pathlib import Path

from crossrec.config import GROUPS, options
from crossrec.errors import CrossrecError

USAGE = """usage: crossrec ls [GROUP | runs [FOLDER]]

Without an argument: the config groups. With one: its options, a line each.
`runs`: the runs below FOLDER (default: runs)."""


def main(arguments: list[str]) -> None:
    """Print the list asked for."""
    if any(a in ("-h", "--help") for a in arguments):
        print(USAGE)
        return
    if not arguments:
        for group in GROUPS:
            print(f"{group:<14} {', '.join(options(group))}")
        return
    group = arguments[0]
    if group == "runs":
        from crossrec.runs.summary import find_runs, print_runs

        folder = Path(arguments[1] if len(arguments) > 1 else "runs")
        found = find_runs(folder)
        if not found:
            raise CrossrecError(f"no runs below {folder}; `crossrec train` makes one")
        print_runs(found)
        return
    if group not in GROUPS:
        from crossrec.suggestions import nearest

        raise CrossrecError(f"no config group {group!r}{nearest(group, GROUPS)}")
    for name, text in options(group).items():
        print(f"{name:<18} {text}")
