"""Which interactions count: rating threshold, duplicate rows, k-core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import polars as pl

from crossrec.errors import CrossrecError

Duplicates = Literal["first", "last", "keep"]


def filter_interactions(
    frame: pl.DataFrame,
    min_rating: float | None = None,
    user_core: int = 0,
    item_core: int = 0,
    duplicates: Duplicates = "keep",
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Apply the rating threshold, then the rule for duplicates, then the k-core, to one domain.

    Args:
        frame: columns ``user, item, rating, time`` (others are kept), in file order.
        min_rating: lowest rating that counts; None for all.
        user_core: fewest interactions of a user.
        item_core: fewest interactions of an item.
        duplicates: of several rows of one user and item ``keep`` all, or the ``first`` or ``last`` in time (file order
            where the time is equal).

    Returns:
        The rows left, in file order, and how many each step removed.

    Raises:
        CrossrecError: a value is negative or not one of the above.

    >>> rows = pl.DataFrame({"user": list("uuv"), "item": list("iji"), "rating": [5.0, 2.0, 4.0], "time": [1, 2, 3]})
    >>> filter_interactions(rows, min_rating=3, item_core=2)[1]
    {'rating below min_rating': 1, 'duplicates': 0, 'k-core': 0}
    """
    if duplicates not in ("first", "last", "keep"):
        raise CrossrecError(f"duplicates is {duplicates!r}: use 'first', 'last' or 'keep'")
    rated = frame if min_rating is None else frame.filter(pl.col("rating") >= min_rating)
    distinct = rated if duplicates == "keep" else _distinct(rated, duplicates)
    core = k_core(distinct, user_core, item_core)
    counts = {
        "rating below min_rating": frame.height - rated.height,
        "duplicates": rated.height - distinct.height,
        "k-core": distinct.height - core.height,
    }
    return core, counts


def _distinct(frame: pl.DataFrame, keep: Literal["first", "last"]) -> pl.DataFrame:
    order = frame.with_row_index("_row").sort("time", maintain_order=True)
    return order.unique(["user", "item"], keep=keep, maintain_order=True).sort("_row").drop("_row")


def k_core(frame: pl.DataFrame, user_core: int, item_core: int, item_key: Sequence[str] = ("item",)) -> pl.DataFrame:
    """Remove rare users and rare items until every user has ``user_core`` rows and every item ``item_core``.

    The result is the unique largest such set of rows, whatever is removed first; it may be empty.

    Args:
        frame: columns ``user`` and ``item_key``.
        user_core: fewest rows of a user; 0 and 1 remove nothing.
        item_core: fewest rows of an item; 0 and 1 remove nothing.
        item_key: columns that together name an item.
    """
    if user_core < 0 or item_core < 0:
        raise CrossrecError(f"user_core={user_core} and item_core={item_core} must not be negative")
    if user_core <= 1 and item_core <= 1:
        return frame
    # The rounds run on integer codes; the wide frame is filtered once at the end.
    codes = frame.select(
        user=pl.col("user").rank("dense"),
        item=pl.struct(item_key).rank("dense"),
        row=pl.int_range(pl.len(), dtype=pl.UInt32),
    )
    while True:
        left = codes.filter((pl.len().over("user") >= user_core) & (pl.len().over("item") >= item_core))
        if left.height == codes.height:
            return frame[left["row"]]
        codes = left
