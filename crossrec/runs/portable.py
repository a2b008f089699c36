"""What a run says of itself with nothing in it of the machine that ran it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from crossrec.config import conf_dir
from crossrec.runs.identity import WITHOUT

PATH = re.compile(r"""(?:(?<=[\s=:,'"(\[{])|^)/(?=[\w.~-])[^\s,'")\]}]*""")
"""An absolute path inside a text: it begins the text or follows white space, ``=`` or punctuation."""

ELSEWHERE = "..."
"""Stands for the folder of an absolute path."""


def hidden(text: str) -> str:
    """``text`` with the folders of absolute paths taken out.

    >>> hidden("data.source.root=/home/me/books")
    'data.source.root=.../books'
    """
    return PATH.sub(lambda m: f"{ELSEWHERE}/{m[0].rstrip('/').rpartition('/')[2]}", text)


def portable_words(words: Sequence[str]) -> list[str]:
    """Words of a command line without those that say where things lie, and without folders of the machine."""
    return [hidden(word) for word in words if not word.lstrip("+~").startswith("paths.")]


def portable_line(line: str) -> str:
    """A command line as :func:`portable_words` has its words, and without folders of configs."""
    words = shlex.split(line)
    for at in [i for i, word in enumerate(words) if word == "--config-dir"][::-1]:
        del words[at : at + 2]
    return shlex.join(portable_words(words))


def portable_config(config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A resolved config that means the same on another machine.

    ``paths`` become the defaults again, which ask the environment; what lies below them is named by interpolation,
    such as ``${paths.data}/movielens``. Of other absolute paths only the last name stays.

    Args:
        config: the resolved config as plain values.

    Returns:
        The config, and the dotted keys that have lost a folder.
    """
    from omegaconf import OmegaConf

    defaults: Any = OmegaConf.to_container(OmegaConf.select(OmegaConf.load(conf_dir() / "train.yaml"), "paths"))
    lost: list[str] = []

    def moved(value: str, place: str) -> str | None:
        folder = str(config["paths"][place]).rstrip("/")
        inside = value == folder or value.startswith(f"{folder}/")
        return f"${{paths.{place}}}{value[len(folder) :]}" if inside else None

    def made(node: Any, keys: tuple[str, ...]) -> Any:
        if isinstance(node, Mapping):
            return {k: made(v, (*keys, str(k))) for k, v in node.items()}
        if isinstance(node, list):
            return [made(v, keys) for v in node]
        if not isinstance(node, str):
            return node
        # only where it cannot change the run id: elsewhere an equal word may be no path
        below = moved(node, "data") if keys[0] == "data" else moved(node, "features") if keys[-1] in WITHOUT else None
        if below is not None:
            return below
        # the folder of init.from is not in the run id, its last name is
        if (shown := hidden(node)) != node and keys[-1] not in WITHOUT and keys != ("init", "from"):
            lost.append(".".join(keys))
        return shown

    return {**{k: made(v, (k,)) for k, v in config.items() if k != "paths"}, "paths": defaults}, lost
