"""Turn Hydra's and OmegaConf's complaints about a command line into one sentence with the nearest valid names."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crossrec.composing import composed_by_hydra
from crossrec.config import GROUPS, options
from crossrec.errors import CrossrecError


def nearest(word: str, known: Sequence[str], what: str = "did you mean") -> str:
    """Return ``"; did you mean a, b?"`` with the known names nearest to ``word``, or all names when none is near."""
    folded: dict[str, list[str]] = {}
    for name in known:
        folded.setdefault(name.casefold(), []).append(name)
    near = difflib.get_close_matches(word.casefold(), list(folded), n=3, cutoff=0.55)
    close = [name for key in near for name in folded[key]]
    if close:
        return f"; {what} {', '.join(close)}?"
    if len(known) > 40:
        return f"; there are {len(known):,} names, the first is {min(known)!r}"
    return f"; valid names are {', '.join(sorted(known))}" if known else ""


def _keys(node: Any, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        name = f"{prefix}{key}"
        yield name
        if isinstance(value, dict):
            yield from _keys(value, f"{name}.")


def _values(text: str) -> list[str]:
    return [v.strip(" '\"") for v in text.strip("[]").split(",") if v.strip(" '\"[]")]


def not_chosen(key: str, chosen: Sequence[str], config_dirs: Sequence[Path] = ()) -> str:
    """Say that ``key``, ``adaptation.<name>.<option>``, is of a loss that is not among the ``chosen``."""
    name = key.split(".")[1]
    known = options("adaptation", config_dirs)
    if name not in known:
        return f"{key} is of no loss{nearest(name, list(known))}"
    return f"{key} is of a loss that is not chosen: choose it with 'adaptation=[{','.join([*chosen, name])}]'"


def unusable(error: OSError, paths: Mapping[str, Any]) -> CrossrecError | None:
    """Say which folder of the group ``paths`` an error is about; None where it is about another file."""
    at = Path(str(error.filename)).absolute()
    for name, folder in paths.items():
        root = Path(folder).absolute()
        if error.filename and (at == root or root in at.parents or at in root.parents):
            mend = f"set paths.{name} to a folder that can be written, or make room"
            return CrossrecError(f"paths.{name}={folder} cannot be used ({error.strerror}: {at}): {mend}")
    return None


def explain(error: Exception, overrides: list[str], config_dirs: Sequence[Path] = ()) -> CrossrecError | None:
    """Find the override that ``error`` is about.

    Args:
        error: what Hydra or OmegaConf raised.
        overrides: the words of the command line.
        config_dirs: more folders of configs.

    Returns:
        An error that names the key or option and its nearest valid names; None when no override is to blame.
    """
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for word in overrides:
        if wrong := _wrong_word(word, config_dirs):
            return CrossrecError(wrong)
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return None
    told: Exception = error
    try:
        groups = [word for word in overrides if _group(word) and not re.search(r",(?![^\[]*\])", word)]
        config = OmegaConf.to_container(composed_by_hydra(groups, config_dirs=config_dirs), resolve=False)
    except Exception as of_groups:
        told = of_groups
    else:
        if wrong := _wrong_key(config, overrides, config_dirs):
            return CrossrecError(wrong)
    return CrossrecError(f"the configuration cannot be composed: {' '.join(str(told).split())}")


def _group(word: str) -> str | None:
    """The config group that an override chooses of."""
    group = word.partition("=")[0].split("@")[0]
    return group if "=" in word and group in GROUPS else None


def _wrong_word(word: str, config_dirs: Sequence[Path]) -> str | None:
    """What is wrong with an override that can be told from itself alone."""
    if "=" not in word:
        is_other = word.startswith(("-", "~"))
        return None if is_other else f"{word!r} is not an override: write key=value, as in strategy=mmd"
    if wrong := _unreadable(word):
        return f"{word!r} cannot be read ({wrong}): close every bracket and quote, and quote the word"
    group = _group(word)
    if group is None:
        return None
    known, values = list(options(group, config_dirs)), word.partition("=")[2]
    if values in ("", "null", "None"):
        none = "; leave it out for none" if group == "experiment" else f"; {group}=[] is none"
        return f"{word} names no option{none if group in ('experiment', 'adaptation') else nearest('', known)}"
    wrong = next((value for value in _values(values) if value not in known), "")
    return f"no option {wrong!r} for {group}{nearest(wrong, known)}" if wrong else None


def _wrong_key(config: Any, overrides: Sequence[str], config_dirs: Sequence[Path]) -> str | None:
    """Say which key of the overrides ``config`` has not."""
    known = list(_keys(config))
    for word in overrides:
        key = word.partition("=")[0]
        if key in known or key.startswith(("+", "~", "-", "hydra")) or "=" not in word or _group(word):
            continue
        first, *rest = key.split(".")
        terms = list(config.get("adaptation") or {})
        if first == "adaptation" and rest and rest[0] not in terms:
            return not_chosen(key, terms, config_dirs)
        parent, _, name = key.rpartition(".")
        if outside := _takes(config, parent, name):
            return f"no config key {key!r}, but {outside} takes it: add it with +{word}"
        known = [k for k in known if not k.rpartition(".")[2].startswith("_")]  # _target_ is nobody's option
        siblings = [k for k in known if k.rpartition(".")[0] == parent]
        beside = difflib.get_close_matches(key[len(parent) :], [k[len(parent) :] for k in siblings], n=2, cutoff=0.75)
        close = difflib.get_close_matches(key, sorted({*known, *GROUPS}), n=3, cutoff=0.6)
        near = siblings or [k for k in known if "." not in k]
        return f"no config key {key!r}{nearest(key, [parent + name for name in beside] or close or near)}"
    return None


def _takes(config: Mapping[str, Any], parent: str, name: str) -> str | None:
    """The class of another library that the node ``parent`` builds, if it has an argument ``name``."""
    from hydra.utils import get_class

    node: Any = config
    for part in parent.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    target = str(node.get("_target_", "")) if isinstance(node, Mapping) else ""
    if not target or target.startswith("crossrec."):
        return None
    try:
        return target if name in inspect.signature(get_class(target)).parameters else None
    except (ImportError, ValueError, TypeError):
        return None


def _unreadable(word: str) -> str:
    """What Hydra's grammar has against a word; empty where it reads it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        OverridesParser.create().parse_override(word)
    except HydraException as error:
        return str(error).splitlines()[0].removesuffix(".")
    return ""
