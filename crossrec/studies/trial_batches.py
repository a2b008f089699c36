"""Trials of `crossrec tune` on a Hydra launcher, a batch at a time."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from itertools import islice

from crossrec.runs.store import TAKEN
from crossrec.runs.trial_storage import VARIABLE
from crossrec.studies.engine import Engine, Task
from crossrec.studies.trial import Outcome, TrialJob, ended

WAIT = 2.0
"""Seconds between two looks at a run that another process holds."""


@dataclass(frozen=True)
class Batches:
    """Runs ``size`` trials at once through a launcher and waits for all of them before it draws the next.

    Attributes:
        engine: how to launch; on a cluster, the runs folder (with the search's database) must lie where all machines
            see it.
        size: trials of a batch.
    """

    engine: Engine
    size: int

    def run_batch(self, jobs: Iterable[TrialJob]) -> Generator[Outcome, None, None]:
        """Run jobs; see :class:`crossrec.studies.trial.Launcher`."""
        waiting = iter(jobs)
        while batch := list(islice(waiting, self.size)):
            begun = time.time()
            left = batch
            while left:
                self.engine.launch([_task(job) for job in left])
                left = [j for j in left if not j.run.finished and self.engine.exit_status(_task(j)) == TAKEN]
                while any(job.run.locked for job in left):  # an equal trial, or one that a killed tuner left behind
                    time.sleep(WAIT)
            for job in batch:
                yield ended(job, self.engine.exit_status(_task(job)), begun, self.engine.log(_task(job)))


def _task(job: TrialJob) -> Task:
    return Task(job.overrides, f"trial {job.number}", {} if job.variable is None else {VARIABLE: job.variable})
