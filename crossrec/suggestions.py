"""Turn Hydra's and OmegaConf's complaints about a command line into one sentence with the nearest valid names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from crossrec.config import GROUPS, compose, options
from crossrec.errors import CrossrecError


def nearest(word: str, known: Sequence[str], what: str = "did you mean") -> str:
    """Return ``"; did you mean a, b?"`` with the known names nearest to ``word``, or all names when none is near."""
    close = difflib.get_close_matches(word, known, n=3, cutoff=0.55)
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

    if not isinstance(error, HydraException | OmegaConfBaseException):
        return None
    groups: list[str] = []
    for word in overrides:
        key, separator, text = word.partition("=")
        key = key.split("@")[0]
        if not separator:
            if not key.startswith(("-", "~")):
                return CrossrecError(f"{word!r} is not an override: write key=value, as in strategy=mmd")
            continue
        if key in GROUPS:
            known = options(key, config_dirs)
            for value in _values(text):
                if value not in known and value not in {"null", "None"}:
                    return CrossrecError(f"no option {value!r} for {key}{nearest(value, list(known))}")
            if not re.search(r",(?![^\[]*\])", text):
                groups.append(word)
    try:
        config = OmegaConf.to_container(compose(groups, config_dirs=config_dirs), resolve=False)
    except Exception:
        config = {}
    known_keys = list(_keys(config))
    for word in overrides:
        key = word.partition("=")[0]
        if key.startswith(("+", "~", "-", "hydra")) or "=" not in word or key.split("@")[0] in GROUPS:
            continue
        if key not in known_keys:
            parent = key.rpartition(".")[0]
            siblings = [k for k in known_keys if k.rpartition(".")[0] == parent]
            close = difflib.get_close_matches(key, sorted({*known_keys, *GROUPS}), n=3, cutoff=0.6)
            near = siblings or [k for k in known_keys if "." not in k]
            hint = f"; did you mean {', '.join(close)}?" if close else nearest(key, near)
            return CrossrecError(f"no config key {key!r}{hint}")
    message = " ".join(str(error).split())
    return CrossrecError(f"the configuration cannot be composed: {message}")
