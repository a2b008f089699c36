"""Which keys a composed config may have, and of what type the values are that no class takes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from crossrec.annotations import mismatch
from crossrec.config import GROUPS, conf_dir, options
from crossrec.errors import CrossrecError
from crossrec.suggestions import nearest, not_chosen

if TYPE_CHECKING:
    from pathlib import Path

    from omegaconf import DictConfig

SECTIONS = {"": "train.yaml", "evaluation": "evaluation/full.yaml", "data": "data/synthetic.yaml"}
"""Part of a config that is no object's -> the file of ours that has all its keys; mappings in it are parts too."""

OPTIONAL = ("experiment", "adaptation", "callbacks")
"""Groups that a run may do without."""

TYPES: Mapping[str, Any] = {
    "checkpoint_every_n_steps": int | None,
    "positive_rating": float | None,
    "negatives": str,
    "init.from": str | None,
    "evaluation.protocol": str,
    "evaluation.n_candidates": int | None,
    "evaluation.candidate_sampling": str | None,
    "evaluation.ks": Sequence[int],
    "evaluation.monitor": str,
    "evaluation.valid_queries": int | None,
    "evaluation.query_batch_size": int | None,
    "evaluation.diversity": bool,
    "paths.data": str,
    "paths.prepared": str,
    "paths.features": str,
    "paths.runs": str,
}
"""Key -> type of its value."""


def check_words(overrides: Sequence[str]) -> None:
    """Refuse lists of options where a run has one of a group: Hydra would merge their keys.

    Args:
        overrides: the words of a command line.

    Raises:
        CrossrecError: names the group.
    """
    for word in overrides:
        group, _, value = word.lstrip("+").partition("=")
        if group in GROUPS and group not in OPTIONAL and value.startswith("["):
            raise CrossrecError(
                f"{word} chooses several of what a run has one of: name one, as in {group}={_first(value)}"
            )


def check_keys(config: DictConfig, config_dirs: Sequence[Path] = ()) -> None:
    """Refuse keys that nothing reads, choices that are missing and values of another type.

    A key of the user's own stays where another value is made from it, as in ``+w=0.1 adaptation.mmd.weight=${w}``.

    Args:
        config: composed from ``conf/train.yaml``.
        config_dirs: folders of configs besides ours.

    Raises:
        CrossrecError: names the key and what it may be.
    """
    from omegaconf import OmegaConf

    raw = cast(dict[str, Any], OmegaConf.to_container(config, resolve=False))
    for group in GROUPS:
        if group not in OPTIONAL and not raw.get(group):
            raise CrossrecError(f"a run needs {group}=...{nearest('', list(options(group, config_dirs)))}")
    if raw.get("experiment"):
        raise CrossrecError(
            "the keys of an experiment are to lie at the top of the config, not in `experiment`: the first line of its "
            "yaml must be `# @package _global_`"
        )
    _check_objects(raw, config_dirs)
    read = _interpolated(raw)
    for section, known in _known().items():
        node = raw.get(section) if section else raw
        for key in node if isinstance(node, Mapping) else ():
            name = f"{section}.{key}" if section else str(key)
            if key not in known and not any(r == name or r.startswith(f"{name}.") for r in read):
                raise CrossrecError(f"nothing reads the config key {name!r}{nearest(str(key), known)}")
    for section in ("evaluation", "paths"):
        for key in _known()[section]:
            if key not in raw[section]:
                raise CrossrecError(f"{section}.{key} is missing: set {section}.{key}=...")
    for key, kind in TYPES.items():
        value = OmegaConf.select(config, key)
        plain = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        found = mismatch(key, plain, kind)
        if found is not None:
            raise CrossrecError(f"{found.key}={found.value!r} must be {found.expected}")
    ks = list(config.evaluation.ks)
    if not ks or min(ks) < 1:
        raise CrossrecError(f"evaluation.ks={ks} must be a list of lengths from 1 on, such as [1, 5, 10, 20]")


def _check_objects(raw: Mapping[str, Any], config_dirs: Sequence[Path]) -> None:
    """Refuse options of what is not built."""
    built = [(group, raw[group]) for group in GROUPS if group not in (*OPTIONAL, *SECTIONS)]
    for key, node in [*built, ("data.source", raw["data"].get("source"))]:
        if not isinstance(node, Mapping) or "_target_" not in node:
            raise CrossrecError(f"{key} names no class: its yaml needs a line `_target_: module.Class`")
        without = [option for option in node if not option.startswith("_")]
        if node["_target_"] is None and without:
            raise CrossrecError(
                f"{key}.{without[0]} has no effect, because nothing is built here: choose another {key}"
            )
    terms = raw.get("adaptation") or {}
    if "_target_" in terms:
        raise CrossrecError(
            f"the yaml of {terms['_target_']} does not say under which name it goes: "
            "its first line must be `# @package adaptation.NAME`"
        )
    for name, term in terms.items():
        if isinstance(term, Mapping) and not term.get("_target_"):
            chosen = [other for other in terms if other != name]
            raise CrossrecError(not_chosen(f"adaptation.{name}.{next(iter(term), '')}", chosen, config_dirs))
    for name, callback in (raw.get("callbacks") or {}).items():
        if callback and not (isinstance(callback, Mapping) and callback.get("_target_")):
            raise CrossrecError(
                f"callbacks.{name} names no class: choose callbacks=default, or set callbacks.{name}._target_"
            )


def _first(values: str) -> str:
    return values.strip("[] ").partition(",")[0].strip() or "NAME"


@cache
def _known() -> dict[str, list[str]]:
    """Keys of each section, as our files have them."""
    import yaml

    found: dict[str, list[str]] = {}
    for section, file in SECTIONS.items():
        node = yaml.safe_load((conf_dir() / file).read_text())
        if not section:
            node = {k: v for k, v in node.items() if k not in ("defaults", "hydra")} | dict.fromkeys(GROUPS)
            found.update({key: list(value) for key, value in node.items() if isinstance(value, Mapping) and value})
        found[section] = list(node)
    return found


def _interpolated(raw: Mapping[str, Any]) -> set[str]:
    """Keys that interpolations read; of relative ones the names they end in."""
    return {key for text in _texts(raw) for key in re.findall(r"\$\{\s*\.*([\w.]+)", text)}


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, Mapping | list):
        for child in node.values() if isinstance(node, Mapping) else node:
            yield from _texts(child)
