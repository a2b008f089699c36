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

from crossrec.config import compose, conf_dir, plain, search_path_word, sources
from crossrec.errors import CrossrecError

if TYPE_CHECKING:
    from omegaconf import DictConfig

USAGE = """usage: crossrec train [-m] [--config-dir DIR ...] [KEY=VALUE ...]

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

    from crossrec.search_path import join
    from crossrec.suggestions import explain, unusable

    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come to us whole; we tell them in one sentence
    join()
    hydra_words = _for_hydra(arguments)
    application = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="train")(job)
    try:
        with _startable(hydra_words):
            application()
    except _Refused as refused:
        raise refused.error from None
    except CrossrecError:
        raise
    except OSError as error:
        raise unusable(error, composed(override_words(arguments), config_dirs(arguments))["paths"]) or error from error
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


def split_config_dirs(arguments: list[str]) -> tuple[list[Path], list[str]]:
    """Tell the folders of ``--config-dir DIR``, as often as it is given, from the other words.

    Raises:
        CrossrecError: there is no such folder.
    """
    folders, rest, words = [], [], iter(arguments)
    for word in words:
        option, equals, value = word.partition("=")
        if option not in ("--config-dir", "-cd"):
            rest.append(word)
            continue
        folder = value if equals else next(words, "")
        if not Path(folder).is_dir() or not folder:
            raise CrossrecError(f"--config-dir {folder} is not a folder" if folder else "--config-dir needs a folder")
        folders.append(Path(folder))
    return folders, rest


def config_dirs(arguments: list[str]) -> list[Path]:
    """Folders given by ``--config-dir DIR``."""
    return split_config_dirs(arguments)[0]


def _for_hydra(arguments: list[str]) -> list[str]:
    """The words as Hydra reads them: overrides side by side, then options, one ``--config-dir`` at most.

    It refuses an option between two overrides, and reads the last of several ``--config-dir``; so they become its path.
    """
    folders, rest = split_config_dirs(arguments)
    sources(folders)
    overrides, options = _split_options(rest)
    for option, shown in pairwise(options):
        if option in ("--cfg", "-c") and shown not in SHOWN:
            raise CrossrecError(f"{option} {shown} shows nothing: choose {', '.join(SHOWN)}")
    if len(folders) < 2:
        return [*overrides, *options, *(w for folder in folders for w in ("--config-dir", str(folder)))]
    if any(word.startswith("hydra.searchpath=") for word in overrides):
        raise CrossrecError("hydra.searchpath and several --config-dir cannot be joined: give all as --config-dir")
    return [*overrides, search_path_word(folder.resolve() for folder in folders), *options]


SHOWN = ("job", "hydra", "all")
"""What ``--cfg`` shows."""

VALUED = ("--config-dir", "--config-name", "--config-path", "--package", "--cfg", "-cd", "-cn", "-cp", "-p", "-c")


def override_words(arguments: list[str]) -> list[str]:
    """The words that are no option of Hydra's and no option's value."""
    return _split_options(arguments)[0]


def _split_options(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Overrides, and options with their values; ``--info`` may have one."""
    overrides: list[str] = []
    options: list[str] = []
    for before, word in zip(["", *arguments], arguments):
        is_value = before in VALUED or (before == "--info" and "=" not in word)
        (options if is_value or word.startswith("-") else overrides).append(word)
    return overrides, options


def job(config: DictConfig) -> float | None:
    """Train one composed config; the value of the selected validation metric."""
    from crossrec.keys import check_keys, check_words
    from crossrec.runs.effects import without_effect
    from crossrec.runs.train import train

    try:
        check_words(_overrides())
        check_keys(config, _config_dirs())
        made = plain(config)
        remarks = without_effect(made, _overrides()) if _alone() else ()
        run = train(made, _overrides(), _config_dirs(), remarks)
    except CrossrecError as error:
        raise _Refused(error) from error
    _note(run.path)
    return run.selected if run.finished else None  # in a further process of a DDP run it is not, yet


def _alone() -> bool:
    """Whether the words are for this run alone: not those of a grid, a sweep or a search."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    from crossrec.runs.store import SINCE
    from crossrec.runs.trial_storage import VARIABLE

    return HydraConfig.get().mode == RunMode.RUN and not {SINCE, VARIABLE} & set(os.environ)


def _overrides() -> list[str]:
    from hydra.core.hydra_config import HydraConfig

    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def _config_dirs() -> list[Path]:
    """Folders that a ``--config-dir`` or a search path of the user's added to ours and installed packages'."""
    from hydra.core.hydra_config import HydraConfig

    if not HydraConfig.initialized():
        return []
    own = {source.folder.resolve() for source in sources()}
    read = HydraConfig.get().runtime.config_sources
    folders = [Path(source.path).resolve() for source in read if source.schema == "file"]
    return [folder for folder in folders if folder not in own]


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
