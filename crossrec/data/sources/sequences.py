"""Lines of items to one row an event."""

from __future__ import annotations

import polars as pl


def explode(lines: pl.DataFrame, user: pl.Expr, events: pl.Expr) -> pl.DataFrame:
    """Turn one user a line into one event a row.

    Args:
        lines: any columns.
        user: the user's name, str, from the columns of ``lines``.
        events: list of events, in order.

    Returns:
        Columns ``user: str``, ``event`` and ``time: i64``, the event's position in its line from 0.
    """
    frame = lines.select(user=user, event=events)
    frame = frame.with_columns(time=pl.int_ranges(pl.col("event").list.len().cast(pl.Int64)))
    return frame.explode(["event", "time"])
