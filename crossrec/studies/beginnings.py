"""Rows of a study whose runs begin with the weights of another row's: ``init: {row: NAME}``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from crossrec.errors import CrossrecError
from crossrec.studies.study import Row
from crossrec.suggestions import nearest


def named_row(path: Path, row: str, node: Any) -> str | None:
    """Return the row that ``init`` of a row's mapping names; None where it has none.

    Raises:
        CrossrecError: it is no mapping of the one key ``row`` to a name.
    """
    init = node.get("init") if isinstance(node, dict) else None
    if init is None:
        return None
    if not isinstance(init, dict) or list(init) != ["row"] or not isinstance(init["row"], str):
        raise CrossrecError(
            f"{path}: rows.{row}.init must be a mapping such as {{row: pretraining}}; what stays fixed is an override, "
            "such as init.freeze=[user_encoder]"
        )
    return init["row"]


def check_rows(path: Path, rows: Sequence[Row]) -> None:
    """Check that every row begins with one run that there can be before its own.

    Raises:
        CrossrecError: a row begins with one that is not there, has several runs a seed, or begins with itself; or it is
            tuned, or names a run besides.
    """
    by_name = {row.name: row for row in rows}
    for row in rows:
        if row.init is None:
            continue
        where = f"{path}: rows.{row.name}.init"
        if row.init not in by_name:
            raise CrossrecError(f"{where}: no row {row.init!r}{nearest(row.init, list(by_name))}")
        if len(by_name[row.init].runs) > 1:
            raise CrossrecError(
                f"{where}: {row.init!r} has {len(by_name[row.init].runs)} runs a seed, and one is needed"
            )
        if row.search:
            raise CrossrecError(
                f"{where}: a row that is tuned cannot wait for another: give init.from=... in overrides"
            )
        seen = [row.name]
        at: str | None = row.init
        while at is not None:
            if at in seen:
                raise CrossrecError(f"{where}: {' begins with '.join([*seen, at])}")
            seen.append(at)
            at = by_name[at].init if at in by_name else None


def with_sources(rows: Sequence[Row], names: Collection[str]) -> set[str]:
    """Names of rows and of those that they begin with, and so on."""
    kept = set(names)
    for _ in rows:
        kept |= {row.init for row in rows if row.name in kept and row.init is not None}
    return kept
