"""How a sweep stands, while it runs: a live table in a terminal, a line for each change elsewhere."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from crossrec.durations import clock
from crossrec.runs.store import DONE
from crossrec.studies.jobs import Planned

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

COLOURS = {
    "finished": "green", "recorded": "green", "failed": "red", "running": "cyan", "interrupted": "yellow",
    "pruned": "yellow",
}  # fmt: skip
SHOWN = 20


def jobs_table(jobs: Sequence[Planned], title: str) -> Table:
    """Return a rich table of jobs, one line each, with their states, times and run folders."""
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left")
    for name in ("job", "state", "time", "run"):
        table.add_column(name, overflow="fold")
    for planned in jobs:
        if planned.waits:
            table.add_row(escape(planned.label), escape(f"waits for {planned.waits}"), "", "")
            continue
        state = planned.run.state
        table.add_row(escape(planned.label), _coloured(state), clock(seconds(planned)), planned.run.id)
    return table


def _coloured(state: str) -> str:
    return f"[{COLOURS[state]}]{state}[/]" if state in COLOURS else state


def seconds(planned: Planned) -> float | None:
    """Seconds that a job has taken up to now; None when it has not begun."""
    status = planned.run.status
    spent = float(status.get("seconds", 0.0))
    if planned.run.state == "running" and "started" in status:
        spent += time.time() - float(status["started"])
    return spent or None


class Watch:
    """Show jobs while they run: a context manager around the launcher.

    Args:
        jobs: all jobs of the sweep.
        console: where to show them.
        every: seconds between two looks.
        idle: runs that have failed before and are left alone.
    """

    def __init__(
        self, jobs: Sequence[Planned], console: Console, every: float = 1.0, idle: Collection[Path] = ()
    ) -> None:
        self.jobs = list(jobs)
        self.console = console
        self.every = every
        self.begun = time.time()
        self.states = {planned.run.path: planned.run.state for planned in jobs}
        self.before = sum(state in DONE or path in idle for path, state in self.states.items())
        self._failed = {path for path, state in self.states.items() if state == "failed" and path not in idle}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._live: Any = None

    def __enter__(self) -> Watch:
        """Start looking."""
        from rich.live import Live

        if self.console.is_terminal:
            self._live = Live(self.screen(), console=self.console, refresh_per_second=2, transient=True)
            self._live.start()
        self._thread = threading.Thread(target=self._look_on, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Look a last time and stop."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._live is not None:
            self._live.stop()
        self.look()

    def _look_on(self) -> None:
        while not self._stop.wait(self.every):
            self.look()

    def look(self) -> None:
        """Read all states; print those that changed, or redraw."""
        for planned in self.jobs:
            old, new = self.states[planned.run.path], planned.run.state
            if old != new:
                self._failed.discard(planned.run.path)
                self.states[planned.run.path] = new
                spent = clock(seconds(planned))
                words = f"{_coloured(new)} {escape(planned.label)}" + (
                    f" after {spent}" if new in ("finished", "failed") else ""
                )
                self.console.print(words, highlight=False, soft_wrap=True)
                if new in ("finished", "failed"):
                    self.console.print(f"  {self.line()}", highlight=False, soft_wrap=True)
        if self._live is not None and self._live.is_started:
            self._live.update(self.screen())

    def line(self) -> str:
        """How many jobs are in which state, and the time left if the rest goes on as before."""
        counts = Counter(self.states.values())
        text = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        done = counts["finished"] + counts["failed"] - self.before - len(self._failed)
        rest = len(self.jobs) - done - self.before
        if done > 0 and rest:
            text += f"; about {clock((time.time() - self.begun) / done * rest)} left"
        return text

    def screen(self) -> Any:
        """Running jobs and the counts, as a rich renderable."""
        from rich.console import Group

        running = [p for p in self.jobs if self.states[p.run.path] == "running"]
        return Group(jobs_table(running[:SHOWN], "running"), self.line()) if running else self.line()
