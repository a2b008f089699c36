"""Hand jobs to a Hydra launcher; each is a process of its own, wherever the launcher starts it."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from crossrec.config import quoted, search_path_word
from crossrec.errors import CrossrecError
from crossrec.runs.store import SINCE, write_json

if TYPE_CHECKING:
    from omegaconf import DictConfig

PLUGINS = Path(__file__).resolve().parents[1] / "_plugins"


class Task(NamedTuple):
    """What an engine starts.

    Attributes:
        words: of ``crossrec train``.
        name: for people: a cluster's queue, W&B's job type.
        environment: more variables of the process.
    """

    words: tuple[str, ...]
    name: str
    environment: Mapping[str, str] = {}


@dataclass(frozen=True)
class Engine:
    """How jobs are launched.

    Attributes:
        folder: where the sweep's logs lie, named after the study; on a cluster all machines must see it.
        hydra: words for Hydra: the launcher and its options.
        threads: of each job; None for what the environment says.
        gpus: devices that jobs share out, one at a time each; for launchers on one machine.
        config_dirs: folders of configs.
        group: of the jobs in W&B; None is the folder's name.
        since: seconds since the epoch; a run that has failed after it, in another sweep, is not run again.
    """

    folder: Path
    hydra: tuple[str, ...] = ()
    threads: int | None = None
    gpus: tuple[str, ...] = ()
    config_dirs: tuple[Path, ...] = ()
    group: str | None = None
    since: float = field(default_factory=time.time)

    def log(self, task: Task) -> Path:
        """Where the output of a task goes."""
        return _log_path(self.folder, task.words)

    def exit_status(self, task: Task) -> int | None:
        """Exit status of a task's process; None when it did not come to its end."""
        path = self.log(task).with_suffix(".exit")
        return int(path.read_text()) if path.is_file() else None

    def launch(self, tasks: Sequence[Task]) -> str | None:
        """Run tasks and return when the launcher has; how each ended stands in its run folder.

        Returns:
            What went wrong with the launcher itself: a cluster that kills one job of a batch makes some launchers give
            up waiting for the others.

        Raises:
            CrossrecError: the launcher is not installed, or Hydra refuses an option of it.
        """
        import hydra

        from crossrec.config import conf_dir
        from crossrec.suggestions import explain

        findable()
        self.folder.mkdir(parents=True, exist_ok=True)
        listed = self.folder / f"jobs-{os.getpid()}.json"
        write_json(listed, [_listed(task) for task in tasks])
        for task in tasks:
            self.log(task).with_suffix(".exit").unlink(missing_ok=True)
        words = [
            "hydra/sweeper=crossrec_study",
            f"hydra.sweeper.jobs={quoted(listed)}",
            f"hydra.sweeper.folder={quoted(self.folder)}",
            f"hydra.sweeper.group={quoted(self.group or self.folder.name)}",
            f"hydra.sweeper.since={self.since!r}",
            f"hydra.sweep.dir={quoted(self.folder / 'jobs')}",
            f"hydra.sweeper.threads={'null' if self.threads is None else self.threads}",
            f"hydra.sweeper.gpus=[{','.join(self.gpus)}]",
            f"hydra.sweeper.config_dirs=[{','.join(quoted(d) for d in self.config_dirs)}]",
            *self.hydra,
        ]
        if self.config_dirs:
            words.append(search_path_word(self.config_dirs))
        argv, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
        sys.argv, os.environ["HYDRA_FULL_ERROR"] = [__file__, "-m", *words], "1"
        try:
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(run_job)()
        except Exception as error:
            wrong = _launcher_error(error, self.hydra) or explain(error, list(self.hydra))
            if wrong is not None:
                raise wrong from error
            told = " ".join(str(error).split())[:300]
            return f"the launcher gave up with {type(error).__name__}: {told}"
        finally:
            sys.argv = argv
            os.environ.pop("HYDRA_FULL_ERROR") if full is None else os.environ.update(HYDRA_FULL_ERROR=full)
            listed.unlink(missing_ok=True)
        return None


def findable() -> None:
    """Put our sweeper on the path of this process and its children, where no installation has."""
    if find_spec("hydra_plugins") is None or find_spec("hydra_plugins.crossrec_study") is None:
        sys.path.append(str(PLUGINS))
        known = [p for p in (os.environ.get("PYTHONPATH"), str(PLUGINS)) if p]
        os.environ["PYTHONPATH"] = os.pathsep.join(known)
    from hydra.core.plugins import Plugins
    from hydra_plugins.crossrec_study import StudySweeper  # type: ignore[import-not-found, import-untyped]

    Plugins.instance().register(StudySweeper)  # Hydra looks for plugins once a process


def _listed(task: Task) -> list[str]:
    variables = [f"+hydra.job.env_set.{name}={quoted(value)}" for name, value in task.environment.items()]
    return [*task.words, f"hydra.job.name={quoted(task.name)}", *variables]


LAUNCHERS = {"joblib": "joblib", "submitit_slurm": "slurm", "submitit_local": "slurm", "ray": "ray", "ray_aws": "ray"}
"""Launcher -> the extra that installs it."""


def _launcher_error(error: Exception, words: Sequence[str]) -> CrossrecError | None:
    from hydra.errors import MissingConfigException

    chosen = [w.partition("=")[2] for w in words if w.startswith("hydra/launcher=")]
    if isinstance(error, MissingConfigException) and chosen:
        if chosen[-1] in LAUNCHERS:
            extra = LAUNCHERS[chosen[-1]]
            return CrossrecError(f"hydra/launcher={chosen[-1]} is not installed: pip install 'crossrec[{extra}]'")
        return CrossrecError(f"no launcher {chosen[-1]!r}; there are basic, {', '.join(LAUNCHERS)}")
    return None


def run_job(config: DictConfig) -> int:
    """Train one job as ``crossrec train`` in a process of its own; its exit status.

    Called by the launcher, wherever it runs jobs. A job that fails, is killed or runs out of memory takes nobody along.
    """
    from hydra.core.hydra_config import HydraConfig

    node = HydraConfig.get()
    words = list(node.overrides.task)
    options: Any = node.sweeper
    folder = Path(options.folder)
    environment = dict(os.environ)
    known = [p for p in (environment.get("PYTHONPATH"), str(Path(__file__).resolve().parents[2])) if p]
    environment["PYTHONPATH"] = os.pathsep.join(known)
    environment |= {"WANDB_RUN_GROUP": str(options.group), "WANDB_JOB_TYPE": str(node.job.name)}
    environment[SINCE] = repr(options.since)
    if options.threads:
        environment |= {name: str(options.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    path = _log_path(folder, words)
    path.parent.mkdir(parents=True, exist_ok=True)
    if options.config_dirs:
        words = [search_path_word(options.config_dirs), *words]
    with _device([str(g) for g in options.gpus]) as device, open(path, "ab") as log:
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        log.write(f"\n$ crossrec train {shlex.join(words)}\n".encode())
        log.flush()
        status = subprocess.run(
            [sys.executable, "-m", "crossrec", "train", *words], env=environment, cwd=node.runtime.cwd,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=_end_with_parent,
        ).returncode  # fmt: skip
    write_json(path.with_suffix(".exit"), status)
    return status


def _end_with_parent() -> None:
    """Ask Linux to interrupt this process when the one that started it is gone: a killed worker leaves no orphan."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG


def _log_path(folder: Path, words: Sequence[str]) -> Path:
    """Where the output of the job with these overrides goes, in a sweep's folder."""
    return folder / "logs" / (hashlib.sha256("\0".join(words).encode()).hexdigest()[:12] + ".log")


@contextmanager
def _device(gpus: Sequence[str]) -> Iterator[str | None]:
    """Hold one of ``gpus`` for this process, waiting until one is free; a killed process lets go of its own."""
    if not gpus:
        yield None
        return
    while True:
        for gpu in gpus:
            with open(Path(tempfile.gettempdir()) / f"crossrec-gpu-{os.getuid()}-{gpu}.lock", "w") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    continue
                yield gpu
                return
        time.sleep(0.5)
