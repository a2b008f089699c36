"""The trainer that evaluates a run that is trained already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl


def evaluator(config: Mapping[str, Any]) -> pl.Trainer:
    """Build a trainer on one device that logs and keeps nothing, in the precision of a run's config."""
    return pl.Trainer(
        accelerator="auto",
        devices=1,
        precision=config["trainer"]["precision"],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
