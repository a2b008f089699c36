"""Signals: one that terminates ends long work as Ctrl-C does; one that ended a process is told by its name."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM and SIGHUP interrupt what runs, so that it can be resumed."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def killed_by(code: int) -> str:
    """What to say of a process that a signal ended.

    Args:
        code: its exit status, the signal's number below zero.
    """
    hint = ", as the system does when memory runs out" if code == -signal.SIGKILL else ""
    return f"killed by {signal.Signals(-code).name}{hint}"
