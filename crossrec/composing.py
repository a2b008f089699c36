"""Compose a config by Hydra: once for all lines that choose the same options."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossrec.config import conf_dir, search_path, search_path_word

if TYPE_CHECKING:
    from omegaconf import DictConfig

WATCHED = 1000
"""Files and folders below the folders of configs: where there are more, they are not only for configs."""


def composed(overrides: Sequence[str], name: str = "train", config_dirs: Sequence[Path] = ()) -> DictConfig:
    """As :func:`composed_by_hydra`, at a tenth of the time where the words' choices were composed before.

    Most lines of a study, or of a search, set other values (``a.b=c``) in the same choices of groups. Hydra reads and
    merges some thirty files for every line, and then sets the values, one after the other: so do we, in a copy of what
    it made of the choices alone. A file that has changed is read again, and whatever is not that simple, a mistake
    among them, is left to Hydra.
    """
    from omegaconf import OmegaConf

    try:
        folders = search_path(config_dirs)
        choices, values = _parted(overrides, folders)
        config = copy.deepcopy(_of_choices(name, choices, tuple(d.resolve() for d in config_dirs), _files(folders)))
        for key, value in values:
            OmegaConf.update(config, key, value, merge=True)
    except Exception:
        return composed_by_hydra(overrides, name, config_dirs)
    return config


def composed_by_hydra(overrides: Sequence[str], name: str = "train", config_dirs: Sequence[Path] = ()) -> DictConfig:
    """As :func:`crossrec.config.compose`, with Hydra's own errors."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from crossrec.search_path import join

    join()
    extra = [search_path_word(d.resolve() for d in config_dirs)] if config_dirs else []
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return hydra_compose(name, overrides=[*extra, *overrides])


class _NotSimpleError(Exception):
    """A line that Hydra is to compose as a whole."""


@lru_cache(maxsize=64)
def _of_choices(name: str, choices: tuple[str, ...], config_dirs: tuple[Path, ...], files: object) -> DictConfig:
    """What Hydra makes of ``choices``; ``files`` tell one state of the folders from another."""
    return composed_by_hydra(choices, name, config_dirs)


def _parted(overrides: Sequence[str], folders: Sequence[Path]) -> tuple[tuple[str, ...], list[tuple[str, Any]]]:
    """Words that choose of a group, and keys and values of the others.

    Raises:
        _NotSimpleError: a word adds, deletes, sweeps or is about Hydra itself, so that the order of all words counts.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import OverrideType

    choices, values = [], []
    for word, override in zip(overrides, OverridesParser.create().parse_overrides(list(overrides))):
        key, value = override.key_or_group, override.value()
        if override.type != OverrideType.CHANGE or override.is_sweep_override() or key.startswith("hydra"):
            raise _NotSimpleError(word)
        group = any((folder / key).is_dir() for folder in folders)
        if isinstance(value, dict) if group else override.package is not None:
            raise _NotSimpleError(word)
        if group:
            choices.append(word)
        else:
            values.append((key, value))
    return tuple(choices), values


def _files(folders: Sequence[Path]) -> tuple[tuple[str, int, int], ...]:
    """Path, time of change and size of every config in ``folders``.

    Raises:
        _NotSimpleError: there is no such folder, or it holds too much to look at for every line.
    """
    found, seen = [], 0
    for folder in folders:
        if not folder.is_dir():
            raise _NotSimpleError(folder)
        for at, inner, names in os.walk(folder, followlinks=True):
            seen += len(inner) + len(names)
            if seen > WATCHED:
                raise _NotSimpleError(folder)
            for name in names:
                if name.endswith((".yaml", ".yml")):
                    state = os.stat(path := os.path.join(at, name))
                    found.append((path, state.st_mtime_ns, state.st_size))
    return tuple(found)
