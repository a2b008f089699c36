"""``crossrec train``: one run from raw data to metrics.json, or a grid of them with ``-m``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossrec.config import compose, conf_dir, plain
from crossrec.errors import CrossrecError

if TYPE_CHECKING:
    from omegaconf import DictConfig

USAGE = """usage: crossrec train [-m] [--config-dir DIR] [KEY=VALUE ...]

Trains one run, or with -m every combination of comma-separated values, and writes one folder a run below paths.runs.
The same line again returns a finished run at once and resumes a broken one.

  crossrec train data=movielens strategy=mmd seed=1
  crossrec train -m strategy=target_only,merged,mmd seed=0,1,2
  crossrec train --cfg job          # show the composed config and stop

`crossrec ls` lists the groups (data, strategy, ...), `crossrec ls GROUP` their options."""


def main(arguments: list[str]) -> None:
    """Compose the config with Hydra and train."""
    if any(a in ("-h", "--help") for a in arguments):
        print(USAGE)
        return
    import hydra

    from crossrec.suggestions import explain

    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us whole; we tell them in one sentence
    _check(arguments)
    application = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(job)
    try:
        with _startable(arguments):
            application()
    except _Refused as refused:
        raise refused.error from None
    except CrossrecError:
        raise
    except Exception as error:
        known = explain(error, override_words(arguments), config_dirs(arguments))
        if known is None:
            raise
        raise known from error


class _Refused(BaseException):
    """Carries an error out of a job past Hydra, which would print a line of its own about every ``Exception``."""

    def __init__(self, error: CrossrecError) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def _startable(arguments: list[str]) -> Iterator[None]:
    """Say how this command line is started again: Lightning starts the other DDP processes by it.

    It runs ``python -m <name of the main module> <sys.argv[1:]>``, or the file ``sys.argv[0]`` without such a name.
    Neither ``crossrec train ...`` nor ``python -m crossrec train ...`` is a command line that Hydra could read.
    """
    main_module, argv = sys.modules["__main__"], sys.argv
    spec = getattr(main_module, "__spec__", None)
    sys.argv = [__file__, *arguments]
    main_module.__spec__ = find_spec("crossrec.commands.train")
    try:
        yield
    finally:
        sys.argv, main_module.__spec__ = argv, spec


def config_dirs(arguments: list[str]) -> list[Path]:
    """Folders given by ``--config-dir DIR``."""
    found = [Path(b) for a, b in pairwise(arguments) if a in ("--config-dir", "-cd")]
    return found + [Path(a.partition("=")[2]) for a in arguments if a.startswith("--config-dir=")]


def override_words(arguments: list[str]) -> list[str]:
    """The words that are no option of Hydra's and no option's value."""
    valued = ("--config-dir", "--config-name", "--config-path", "--package", "--cfg", "-cd", "-cn", "-cp", "-p", "-c")
    return [a for before, a in pairwise(["", *arguments]) if not a.startswith("-") and before not in valued]


def _check(arguments: list[str]) -> None:
    for folder in config_dirs(arguments):
        if not folder.is_dir():
            raise CrossrecError(f"--config-dir {folder} is not a folder")


def job(config: DictConfig) -> float | None:
    """Train one composed config; the value of the selected validation metric."""
    from crossrec.runs.train import train

    try:
        run = train(plain(config), _overrides())
    except CrossrecError as error:
        raise _Refused(error) from error
    _note(run.path)
    return run.selected if run.finished else None  # in a further process of a DDP run it is not, yet


def _overrides() -> list[str]:
    from hydra.core.hydra_config import HydraConfig

    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def _note(run: Path) -> None:
    """In a grid's folder of jobs, say which run a job is and by which words: `crossrec table` reads it."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from crossrec.runs.store import write_json

    if HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN:
        write_json(
            Path(HydraConfig.get().runtime.output_dir) / "run.json", {"run": str(run), "overrides": _overrides()}
        )


def composed(overrides: list[str], folders: list[Path] | None = None) -> dict[str, Any]:
    """Compose a training config outside of Hydra's application, as plain values."""
    return plain(compose(overrides, config_dirs=folders or []))


if __name__ == "__main__":
    main(sys.argv[1:])
