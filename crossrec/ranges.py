"""Numbers that an option may be."""

from __future__ import annotations

import math

from crossrec.errors import CrossrecError


def at_least(key: str, value: float | None, least: float, *, strictly: bool = False) -> None:
    """Refuse a value below the least, or without end; None stands for what is worked out.

    Raises:
        CrossrecError: names the key and what it may be.
    """
    if value == math.inf:
        raise CrossrecError(f"{key}={value} must be finite")
    if value is not None and not (value > least if strictly else value >= least):
        raise CrossrecError(f"{key}={value} must be {'more than' if strictly else 'at least'} {least:g}")


def rate(key: str, value: float) -> None:
    """Refuse a rate of dropout, or a share, that is not from 0 to below 1.

    Raises:
        CrossrecError: names the key.
    """
    if not 0 <= value < 1:
        raise CrossrecError(f"{key}={value} must be from 0 to below 1")
