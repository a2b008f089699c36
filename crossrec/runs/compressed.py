"""What the run folder of a compressed run has that others have not, and how its config is read."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from crossrec.errors import CrossrecError
from crossrec.runs.identity import FROZEN, TEXT_ENCODER

MODEL = "text_model"
"""Folder of the compressed text model."""

REPORT = "compression.json"
"""What was measured before and after."""


def text_encoders(node: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the configs of text encoders in an item encoder's config: itself, or parts of a fusion."""
    if isinstance(node, Mapping):
        if node.get("_target_") == TEXT_ENCODER:
            yield node
        else:
            for value in node.values():
                yield from text_encoders(value)


def effective(config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Config by which a run's objects are built: of a compressed run, with its own text model in the source's place.

    Args:
        config: as the run folder has it. That of a compressed run is the source's, with the key ``compression``.
        folder: of the run.

    Raises:
        CrossrecError: the folder has lost its text model, or is a record, which has none.
    """
    if config.get("compression") is None:
        return dict(config)
    if not (folder / MODEL).is_dir():
        raise CrossrecError(
            f"{folder} has no {MODEL}: it is a record, or has lost it; this line makes it again: "
            f"{line(config['compression'], folder.parent)}"
        )
    return {**config, "item_encoder": _placed(config["item_encoder"], folder / MODEL), "tuning": FROZEN}


def line(compression: Mapping[str, Any], runs: Path) -> str:
    """Command line that makes a compressed run.

    Args:
        compression: of its config.
        runs: folder of runs.
    """
    import yaml

    method = compression["method"]
    options = {key: value for key, value in method.items() if key not in ("name", "_target_")}
    flow = {key: yaml.safe_dump(value, default_flow_style=True, width=10**6) for key, value in options.items()}
    words = [f"{key}={value.removesuffix(chr(10)).removesuffix(chr(10) + '...')}" for key, value in flow.items()]
    return shlex.join(["crossrec", "compress", str(runs / compression["source"]), f"method={method['name']}", *words])


def _placed(node: Any, model: Path) -> Any:
    if not isinstance(node, Mapping):
        return node
    if node.get("_target_") == TEXT_ENCODER:
        return {**node, "model": str(model), "tuning": FROZEN}
    return {key: _placed(value, model) for key, value in node.items()}
