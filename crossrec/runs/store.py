"""The run folder: where a run lies, what is in it, when it is done."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shlex
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from crossrec.errors import CrossrecError
from crossrec.runs.identity import Outside, here, run_id
from crossrec.runs.reading import read_config, read_json
from crossrec.runs.versions import versions

if TYPE_CHECKING:
    import polars as pl


def write_text(path: Path, text: str) -> None:
    """Write a text file to a temporary name in the same folder, which is made if need be, and rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with open(temporary, "x") as file:
        file.write(text)
    os.replace(temporary, path)


def write_json(path: Path, value: Any) -> None:
    """Write JSON as :func:`write_text` does."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def write_frame(frame: pl.DataFrame, path: Path, level: int | None = None) -> None:
    """Write CSV, Parquet or JSON by the name's ending, to a temporary name first.

    Args:
        frame: what to write.
        path: the file.
        level: how hard zstd presses Parquet, up to 22; None for its default.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    if path.suffix == ".csv":
        frame.write_csv(temporary)
    elif path.suffix == ".parquet":
        frame.write_parquet(temporary, compression_level=level)
    else:
        frame.write_json(temporary)
    os.replace(temporary, path)


DONE = ("finished", "recorded")
"""States of a run whose numbers are final."""

TAKEN = 75
"""Exit status of ``crossrec train`` where another process runs the run (``EX_TEMPFAIL``)."""


SINCE = "CROSSREC_UNLESS_FAILED_SINCE"
"""Environment variable of a sweep's jobs: a run that has failed after that time is left alone."""


BEGUN = {"config.yaml", "overrides.json", "corpus.json", "versions.json", "status.json", "init.json", ".lock"}
"""Files of a run that has not trained."""


class RunTaken(CrossrecError):
    """Another process is running the run, or has just had it fail."""

    status = TAKEN


class RunFolder:
    """One run on disk: resolved config, versions, status, metrics, per-user metrics, checkpoints.

    Args:
        path: the folder; its name is the run id.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, config: Mapping[str, Any], fingerprint: str, outside: Outside = here) -> RunFolder:
        """Folder of the run that a resolved config makes.

        Args:
            config: the resolved config as plain values.
            fingerprint: content address of its corpus.
            outside: see :func:`~crossrec.runs.identity.science`.
        """
        return cls((Path(config["paths"]["runs"]) / run_id(config, fingerprint, outside)).resolve())

    @classmethod
    def existing(cls, path: Path, said: str = "") -> RunFolder:
        """Open a folder that must hold a run; ``said`` is what it was given as, for the message.

        Raises:
            CrossrecError: there is no run.
        """
        run = cls(path)
        if not run.config_path.is_file():
            raise CrossrecError(
                f"{said}{path} is not a run folder (it has no config.yaml); `crossrec ls runs` lists runs"
            )
        return run

    @property
    def id(self) -> str:
        """The run id."""
        return self.path.name

    @property
    def config_path(self) -> Path:
        """The resolved config."""
        return self.path / "config.yaml"

    @property
    def best(self) -> Path:
        """Checkpoint of the selected epoch."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def last(self) -> Path:
        """Checkpoint to resume from."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def begun(self) -> Path:
        """Which weights of another run this one began with, and what of them it took."""
        return self.path / "init.json"

    @property
    def status(self) -> dict[str, Any]:
        """State (``new``, ``running``, ``finished``, ``failed``) and times."""
        path = self.path / "status.json"
        return cast(dict[str, Any], read_json(path)) if path.is_file() else {"state": "new"}

    @property
    def state(self) -> str:
        """``new``, ``running``, ``interrupted`` (its process is gone), ``finished``, ``failed`` or another mark.

        ``recorded`` is a finished run of which only its record is here, see :mod:`crossrec.runs.record`.
        """
        state = str(self.status["state"])
        if state in DONE and not self.finished:
            return "interrupted"
        return "interrupted" if state == "running" and not self.locked else state

    @property
    def locked(self) -> bool:
        """Whether a process holds the run."""
        try:
            with open(self.path / ".lock") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False

    def failed_since(self, since: float) -> bool:
        """Whether the run has failed after ``since``, in seconds since the epoch."""
        status = self.status
        return status["state"] == "failed" and float(status.get("ended", 0.0)) >= since

    @property
    def finished(self) -> bool:
        """Whether the run's numbers are final."""
        return self.status["state"] in DONE and (self.path / "metrics.json").is_file()

    @property
    def recorded(self) -> bool:
        """Whether the folder is a run's record, which has no weights."""
        return bool(self.status["state"] == "recorded")

    @property
    def metrics(self) -> dict[str, Any]:
        """Contents of metrics.json."""
        return cast(dict[str, Any], read_json(self.path / "metrics.json"))

    @property
    def versions(self) -> dict[str, Any]:
        """Versions of Python and the packages, and the git revision, that began the run."""
        return cast(dict[str, Any], read_json(self.path / "versions.json"))

    @property
    def corpus(self) -> dict[str, Any]:
        """What is known of the corpus: its content address, and where it lies or, of a record, what its domains are."""
        return cast(dict[str, Any], read_json(self.path / "corpus.json"))

    @property
    def fingerprint(self) -> str:
        """Content address of the corpus that the run was trained on."""
        return str(self.corpus["fingerprint"])

    @property
    def overrides(self) -> list[str]:
        """The words that began the run."""
        return cast(list[str], read_json(self.path / "overrides.json"))

    @property
    def selected(self) -> float | None:
        """Validation metric of the selected epoch; None for a strategy that does not train."""
        value = self.metrics.get("best_score")
        return None if value is None else float(value)

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config as plain values."""
        # a record names this machine's folders as ${paths.data}
        return read_config(self.config_path, resolve=self.recorded)

    @property
    def effective(self) -> dict[str, Any]:
        """The config that the run's objects are built by, see :func:`~crossrec.runs.compressed.effective`."""
        from crossrec.runs.compressed import effective

        return effective(self.config, self.path)

    @property
    def config_dirs(self) -> list[Path]:
        """Folders of configs, besides ours, that the run was composed from."""
        # of a record they are relative to it
        return [Path(os.path.normpath(self.path / folder)) for folder in self.status.get("config_dirs", [])]

    def line(self, words: Sequence[str] | None = None) -> str:
        """Command line that trains or compresses the run, or with other ``words`` trains one from the same configs."""
        if words is None and (compression := self.config.get("compression")) is not None:
            from crossrec.runs.compressed import line

            return line(compression, self.path.parent)
        folders = [word for folder in self.config_dirs for word in ("--config-dir", str(folder))]
        return shlex.join(["crossrec", "train", *folders, *(self.overrides if words is None else words)])

    def begin(
        self,
        config: Mapping[str, Any],
        overrides: list[str],
        corpus: Mapping[str, Any],
        config_dirs: Sequence[Path] = (),
    ) -> None:
        """Write what the run is before it starts."""
        from omegaconf import OmegaConf

        write_text(self.config_path, OmegaConf.to_yaml(OmegaConf.create(dict(config))))
        write_json(self.path / "overrides.json", overrides)
        write_json(self.path / "corpus.json", corpus)
        write_json(self.path / "versions.json", versions())
        self.mark(
            "running",
            started=time.time(),
            pid=os.getpid(),
            host=platform.node(),
            config_dirs=[str(folder) for folder in config_dirs],
            error=None,
        )

    def mark(self, state: str, **more: Any) -> None:
        """Change the status, keeping the earlier entries."""
        write_json(self.path / "status.json", {**self.status, "state": state, **more})

    def discard(self) -> None:
        """Remove the folder, where it holds nothing but what :meth:`begin` wrote; for who has the :meth:`lock`."""
        if {path.name for path in self.path.iterdir()} <= BEGUN:
            shutil.rmtree(self.path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process; the lock goes with the process, however it ends.

        Raises:
            RunTaken: another process is running it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path / ".lock", "w") as file:
            for attempt in range(5):
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError:
                    if attempt == 4:
                        raise RunTaken(
                            f"run {self.id} is being run by another process; wait for it, or stop it"
                        ) from None
                    time.sleep(0.05)  # somebody who only looks (`locked`) lets go at once
            if not os.fstat(file.fileno()).st_nlink:
                raise RunTaken(f"run {self.id} was refused in another process meanwhile; the same line tells why")
            yield
