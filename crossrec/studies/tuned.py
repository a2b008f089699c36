"""Write a list of overrides as an experiment: a config file that trains the same run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from crossrec.config import GROUPS, search_path
from crossrec.errors import CrossrecError
from crossrec.studies.jobs import Resolver


def experiment(words: Sequence[str], config_dirs: Sequence[Path] = ()) -> dict[str, Any]:
    """Turn overrides into the contents of an experiment file.

    Choices of groups become ``override`` entries of its defaults list, ``experiment=x`` an entry that goes before the
    rest, values a tree. Of several words for one key the last holds, as on a command line.

    Args:
        words: as on the command line of ``crossrec train``.
        config_dirs: more folders of configs, to tell groups from keys.

    Raises:
        CrossrecError: a word deletes a key or sets a key of Hydra's own, which no experiment can.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    nested: list[str] = []
    added: dict[str, Any] = {}
    choices: dict[str, Any] = {}
    values = OmegaConf.create({})
    for override in OverridesParser.create().parse_overrides(list(words)):
        key, value = override.key_or_group, override.value()
        group = key in GROUPS or any((folder / key).is_dir() for folder in search_path(config_dirs))
        entry = f"/{key}@{override.package}" if override.package else f"/{key}"
        if key.startswith("hydra"):
            raise CrossrecError(
                f"{override.input_line} cannot be written into an experiment: leave it to the command line"
            )
        if key == "experiment":
            nested = list(value) if isinstance(value, list) else [] if value is None else [str(value)]
        elif group and override.is_add() and not isinstance(value, dict):
            added[entry] = value
        elif group and not isinstance(value, dict):
            choices[f"override {entry}"] = value
        elif override.is_delete():
            raise CrossrecError(
                f"{override.input_line} cannot be written into an experiment, which can only add and change"
            )
        else:
            OmegaConf.update(values, key, value, merge=True, force_add=True)
    defaults: list[Any] = [
        *nested,
        *({k: v} for k, v in added.items()),
        "_self_",
        *({k: v} for k, v in choices.items()),
    ]
    return {"defaults": defaults, **cast(dict[str, Any], OmegaConf.to_container(values))}


def write_experiment(
    folder: Path, name: str, words: Sequence[str], comments: Sequence[str], run: str, config_dirs: Sequence[Path] = ()
) -> Path:
    """Write ``<folder>/experiment/<name>.yaml`` once it is seen to compose to the same run.

    Args:
        folder: for ``--config-dir``.
        name: of the experiment.
        words: overrides of the run.
        comments: lines above the contents; `crossrec ls experiment` shows the first.
        run: id of the run.
        config_dirs: more folders of configs that the words need.

    Raises:
        CrossrecError: the file would train another run.
    """
    from omegaconf import OmegaConf

    node = experiment(words, config_dirs)
    if name in node["defaults"]:
        raise CrossrecError(f"experiment {name} would be written over itself: name the study otherwise")
    text = "\n".join(
        ["# @package _global_", *(f"# {line}" for line in comments), OmegaConf.to_yaml(OmegaConf.create(node))]
    )
    target = folder / "experiment" / f"{name}.yaml"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".tuned") as scratch:
        draft = Path(scratch) / "experiment" / target.name
        draft.parent.mkdir()
        draft.write_text(text)
        if (made := Resolver([Path(scratch), *config_dirs])([f"experiment={name}"]).run.id) != run:
            raise CrossrecError(
                f"{target} would train run {made}, not {run}: its overrides do not fit into an experiment"
            )
        os.replace(draft, target)
    return target
