"""What a run is: the hash of everything that can change its numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from crossrec.config import target_name

SCIENCE = (
    "seed", "target", "dim", "batch_size", "history_length", "negatives", "split", "sampler", "item_encoder",
    "user_encoder", "strategy", "adaptation", "objective", "optimizer", "scheduler", "evaluation", "callbacks",
)  # fmt: skip
"""Config keys that change a run's numbers; paths, loggers and launchers do not."""

BUDGET = ("max_epochs", "gradient_clip_val", "accumulate_grad_batches", "check_val_every_n_epoch", "precision")
"""Trainer options that change a run's numbers; devices and progress bars do not (the batch size is global)."""


def science(config: Mapping[str, Any], fingerprint: str) -> dict[str, Any]:
    """Return the part of a resolved config that a run's numbers depend on.

    Args:
        config: the resolved config as plain values.
        fingerprint: content address of the prepared corpus; stands for the whole ``data`` group.
    """
    kept = {key: _without_paths(config[key]) for key in SCIENCE if key in config}
    trainer = config["trainer"]
    kept["trainer"] = {key: trainer.get(key) for key in BUDGET}
    kept["trainer"].update(
        {k: v for k, v in trainer.items() if k.startswith("limit_") or k in ("max_steps", "min_epochs")}
    )
    kept["data"] = fingerprint
    return kept


def _without_paths(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {k: _without_paths(v) for k, v in node.items() if k != "cache_dir"}
    if isinstance(node, list):
        return [_without_paths(v) for v in node]
    return node


def run_id(config: Mapping[str, Any], fingerprint: str) -> str:
    """Name of the run: ``<data>-<strategy>-<12 hex digits of the hash>``."""
    text = json.dumps(science(config, fingerprint), sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    return f"{target_name(config['data']['source'])}-{target_name(config['strategy'])}-{digest}"
