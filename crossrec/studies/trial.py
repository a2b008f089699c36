"""How `crossrec tune` runs a trial: as an ordinary run in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from crossrec.config import search_path_word
from crossrec.runs.store import TAKEN, RunFolder
from crossrec.runs.trial_storage import VARIABLE
from crossrec.studies.signals import killed_by

State = Literal["finished", "pruned", "failed"]


@dataclass(frozen=True)
class TrialJob:
    """One trial to run.

    Attributes:
        number: of the trial in its Optuna study.
        overrides: all words of its command line after ``crossrec train``.
        run: the run folder that they make.
        variable: value of ``CROSSREC_TRIAL``; None for a run that is not to be pruned.
    """

    number: int
    overrides: tuple[str, ...]
    run: RunFolder
    variable: str | None = None


@dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        job: the trial.
        state: of its run.
        error: one sentence, of a trial that failed.
        seconds: it took; 0 where the run was there.
    """

    job: TrialJob
    state: State
    error: str = ""
    seconds: float = 0.0


def ended(job: TrialJob, code: int | None, begun: float, log: Path) -> Outcome:
    """How a trial has ended whose process has.

    Args:
        job: the trial.
        code: exit status of its process; None where that is not known.
        begun: when it was started, in seconds since the epoch; what its run folder says of earlier times is old.
        log: what it printed.
    """
    status, seconds = job.run.status, time.time() - begun
    if job.run.finished:
        return Outcome(job, "finished", seconds=seconds)
    fresh = float(status.get("ended") or 0.0) >= begun
    if fresh and status["state"] == "pruned":
        return Outcome(job, "pruned", seconds=seconds)
    if code is not None and code < 0:
        error = killed_by(code)
    else:
        error = str(status["error"]) if fresh and status["state"] == "failed" else f"exited with {code}"
    return Outcome(job, "failed", f"{error} (see {log})", seconds)


class Launcher(Protocol):
    """What runs trials: processes of this machine, or any engine that can run a list of command lines."""

    def run_batch(self, jobs: Iterable[TrialJob]) -> Generator[Outcome, None, None]:
        """Run jobs, each with its ``CROSSREC_TRIAL``, and yield each outcome as it comes.

        A job is drawn only when it can be started, for the next parameters are chosen when it is drawn, knowing all
        outcomes yielded so far. An engine that wants lists draws as many as it runs at once.
        """
        ...


class LocalProcesses:
    """Runs up to ``n_jobs`` trials at once, each ``python -m crossrec train`` in a session of its own.

    A crash, an exhausted memory or DDP in a trial does not reach the tuner. Closing the iterator interrupts what runs.

    Args:
        n_jobs: trials at once.
        config_dirs: folders of configs of the study's own.
        logs: folder of what the trials print, a file a run.
        patience: seconds between an interrupt and the end of a trial that does not heed it.
        variables: more variables of each trial's environment.
        threads: of each trial; None for an equal share of the cores, or ``OMP_NUM_THREADS`` where it is set.
    """

    def __init__(
        self,
        n_jobs: int,
        config_dirs: Sequence[Path],
        logs: Path,
        patience: float = 30.0,
        variables: Mapping[str, str] = {},
        threads: int | None = None,
    ) -> None:
        self.n_jobs = n_jobs
        self.config_dirs = config_dirs
        self.logs = logs
        self.patience = patience
        self.variables = variables
        self.threads = threads

    def run_batch(self, jobs: Iterable[TrialJob]) -> Generator[Outcome, None, None]:
        """Run jobs; see :class:`Launcher`."""
        waiting = iter(jobs)
        running: list[_Child] = []
        try:
            while True:
                while len(running) < self.n_jobs and (job := next(waiting, None)) is not None:
                    running.append(_Child(job, self))
                if not running:
                    return
                for child in running:
                    if (outcome := child.poll()) is not None:
                        running.remove(child)
                        yield outcome
                        break
                else:
                    time.sleep(0.05)
        finally:
            self._stop(running)

    def command(self, job: TrialJob) -> list[str]:
        """Return the command line of a trial."""
        search = [search_path_word(folder.resolve() for folder in self.config_dirs)] if self.config_dirs else []
        return [sys.executable, "-m", "crossrec", "train", *search, *job.overrides]

    def environment(self, job: TrialJob) -> dict[str, str]:
        """Return the environment of a trial: it imports what this process would."""
        made = dict(os.environ)
        made.pop(VARIABLE, None)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        made.setdefault("OMP_NUM_THREADS", str(max(1, cores // self.n_jobs)))
        if self.threads is not None:
            made |= {name: str(self.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
        made |= {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PYTHONSAFEPATH": "1", **self.variables}
        if job.variable is not None:
            made[VARIABLE] = job.variable
        return made

    def _stop(self, running: Sequence[_Child]) -> None:
        alive = [c.process for c in running if c.process is not None and c.process.poll() is None]
        for process in alive:
            _signal(process, signal.SIGINT)
        end = time.monotonic() + self.patience
        for process in alive:
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)
                process.wait()


class _Child:
    """A trial that waits for its run folder, or runs, or has ended."""

    def __init__(self, job: TrialJob, launcher: LocalProcesses) -> None:
        self.job = job
        self.launcher = launcher
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0

    def poll(self) -> Outcome | None:
        """Start the process when the run is free, and return the outcome when there is one.

        The run may be held by an equal trial beside this one, or by a trial that a killed tuner left behind.
        """
        run = self.job.run
        if self.process is None:
            if run.locked:
                return None
            if run.finished:
                return Outcome(self.job, "finished")
            self._start()
        if self.process is None or (code := self.process.poll()) is None:
            return None
        if code == TAKEN and not run.finished:  # another process was quicker to take the run
            self.process = None
            return None
        return ended(self.job, code, self.started, self.log)

    @property
    def log(self) -> Path:
        return self.launcher.logs / f"{self.job.run.id}.log"

    def _start(self) -> None:
        self.launcher.logs.mkdir(parents=True, exist_ok=True)
        self.started = time.time()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.launcher.command(self.job),
                env=self.launcher.environment(self.job),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
