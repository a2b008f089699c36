"""Run what a study still lacks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossrec.runs.store import TAKEN
from crossrec.studies.engine import Engine, Task
from crossrec.studies.jobs import Planned, distinct
from crossrec.studies.progress import Watch

if TYPE_CHECKING:
    from rich.console import Console

WAIT = 2.0
"""Seconds between two looks at jobs that another sweep runs."""


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended.

    Attributes:
        finished: jobs with a finished run.
        failed: jobs that failed, now or (without a retry) before.
    """

    finished: list[Planned]
    failed: list[Planned]


def sweep(jobs: Sequence[Planned], engine: Engine, console: Console, *, retry_failed: bool = False) -> Outcome:
    """Launch every job that is not finished, and go on until none is left.

    Jobs that another sweep runs are left to it and looked at again; when that sweep dies, they are run here.

    Args:
        jobs: of a study, in the order to run them.
        engine: how to launch.
        console: where to show progress.
        retry_failed: run jobs again whose run has failed before.
    """
    jobs = distinct(jobs)
    tried = {p.run.path for p in jobs if p.run.state == "failed" and not retry_failed}
    with Watch(jobs, console) as watch:
        while True:
            states = {p.run.path: p.run.state for p in jobs}
            todo = [p for p in jobs if states[p.run.path] not in ("finished", "running") and p.run.path not in tried]
            if todo:
                engine.launch([_task(p) for p in todo])
                tried |= {p.run.path for p in todo if engine.exit_status(_task(p)) != TAKEN}
                watch.look()
            elif any(state == "running" for state in states.values()):
                time.sleep(WAIT)
            else:
                break
    finished = [p for p in jobs if p.run.finished]
    return Outcome(finished, [p for p in jobs if not p.run.finished])


def _task(planned: Planned) -> Task:
    return Task(planned.job.overrides, planned.job.row)


def report(outcome: Outcome, engine: Engine, console: Console) -> None:
    """Say what finished and why the others did not."""
    total = len(outcome.finished) + len(outcome.failed)
    console.print(f"{len(outcome.finished)} of {total} runs finished", highlight=False)
    for planned in outcome.failed:
        status = planned.run.status
        why = status.get("error") or planned.run.state
        console.print(f"[red]failed[/] {planned.label}: {why}", highlight=False, soft_wrap=True)
        console.print(f"  log: {engine.log(_task(planned))}", highlight=False, soft_wrap=True)
