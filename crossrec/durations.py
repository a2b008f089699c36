"""Times in words and on a clock's face."""

from __future__ import annotations


def span(seconds: float) -> str:
    """A time in words: ``8 s``, ``3 min``, ``1.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def clock(spent: float | None) -> str:
    """``h:mm:ss`` or ``m:ss``; empty for None."""
    if spent is None:
        return ""
    minutes, rest = divmod(round(spent), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
