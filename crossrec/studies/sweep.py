"""Run what a study still lacks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from crossrec.runs.store import TAKEN
from crossrec.studies.engine import Engine, Task
from crossrec.studies.jobs import Planned, distinct
from crossrec.studies.progress import Watch
from crossrec.studies.signals import killed_by

if TYPE_CHECKING:
    from rich.console import Console

ATTEMPTS = 2
"""How often a job is started whose process is taken away, by preemption for example."""

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

    Jobs that another sweep runs are left to it and looked at again; when that sweep dies, they are run here. A job
    whose machine is taken away is started once more.

    Args:
        jobs: of a study, in the order to run them.
        engine: how to launch.
        console: where to show progress.
        retry_failed: run jobs again whose run has failed before.
    """
    jobs = distinct(jobs)
    done = {p.run.path for p in jobs if p.run.state == "failed" and not retry_failed}
    attempts: Counter[Path] = Counter()
    with Watch(jobs, console, idle=done) as watch:
        while True:
            # a run that fails in another sweep, after this one began, has had its turn
            done |= {p.run.path for p in jobs if p.run.finished or p.run.failed_since(engine.since)}
            running = {p.run.path for p in jobs if p.run.state == "running"}
            todo = [p for p in jobs if p.run.path not in done | running]
            if todo:
                trouble = engine.launch([_task(p) for p in todo])
                if trouble:
                    console.print(escape(trouble), style="yellow", highlight=False, soft_wrap=True)
                attempts.update(p.run.path for p in todo if engine.exit_status(_task(p)) != TAKEN)
                done |= {p.run.path for p in todo if _ended(p, engine) or attempts[p.run.path] >= ATTEMPTS}
                watch.look()
            elif running:
                time.sleep(WAIT)
            else:
                break
    return Outcome([p for p in jobs if p.run.finished], [p for p in jobs if not p.run.finished])


def in_rounds(
    jobs: Sequence[Planned],
    plan: Callable[[], Sequence[Planned]],
    engine: Engine,
    console: Console,
    *,
    retry_failed: bool = False,
) -> Outcome:
    """Sweep a study, and again the jobs that begin with the runs of others, once these are finished.

    Args:
        jobs: of a study, in the order to run them.
        plan: composes them again, as things stand then.
        engine: how to launch.
        console: where to show progress.
        retry_failed: as in :func:`sweep`; a run that fails in one round is left alone in the next.
    """
    while True:
        outcome = sweep([p for p in jobs if not p.waits], engine, console, retry_failed=retry_failed)
        waiting = [p for p in jobs if p.waits]
        jobs = plan() if waiting else jobs
        if len([p for p in jobs if p.waits]) == len(waiting):
            return Outcome(outcome.finished, [*outcome.failed, *waiting])


def _ended(planned: Planned, engine: Engine) -> bool:
    """Whether the job's process came to an end of its own; not so where its machine was taken away."""
    status = engine.exit_status(_task(planned))
    return status is not None and status != TAKEN


def _task(planned: Planned) -> Task:
    return Task(planned.job.overrides, planned.job.row)


def report(outcome: Outcome, engine: Engine, console: Console) -> None:
    """Say what finished and why the others did not."""
    total = len(outcome.finished) + len(outcome.failed)
    console.print(f"{len(outcome.finished)} of {total} runs finished", highlight=False)
    for planned in outcome.failed:
        log = engine.log(_task(planned))
        state = "waiting" if planned.waits else planned.run.state
        why = f"[red]{state}[/] {escape(planned.label)}: {escape(reason(planned, engine))}"
        console.print(why, highlight=False, soft_wrap=True)
        if log.is_file():
            console.print(f"  log: {escape(str(log))}", highlight=False, soft_wrap=True)


def reason(planned: Planned, engine: Engine) -> str:
    """Why a job is not finished, in a sentence."""
    if planned.waits:
        return f"it begins with the run of {planned.waits}, which is not finished"
    status, code = planned.run.status, engine.exit_status(_task(planned))
    if status.get("error"):
        return str(status["error"])
    if code is not None and code < 0:
        return f"{killed_by(code)}; the same line goes on"
    if code is None:
        return "its process was not started or was taken away; the same line goes on"
    return f"its process ended with {code}; the log says more"
