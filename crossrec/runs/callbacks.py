"""Checkpoints of a run and what a resumed run must do with them."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint

from crossrec.runs.store import RunFolder


class MidEpochCheckpoint(ModelCheckpoint):
    """Save every n steps, but not on an epoch's last batch: resumed from there, Lightning would skip its validation.

    The checkpoint at the epoch's end stands for that step.
    """

    def on_train_batch_end(self, trainer: pl.Trainer, *arguments: Any) -> None:
        """Save unless the epoch ends with this batch."""
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, *arguments)


class StayStopped(Callback):
    """End a resumed run at once where early stopping had ended it: Lightning forgets that it wanted to stop."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop where a restored early stopping has already fired."""
        if any(isinstance(c, EarlyStopping) and c.stopped_epoch > 0 for c in trainer.callbacks):  # type: ignore[attr-defined]
            trainer.should_stop = True


def checkpoints(run: RunFolder, every_n_steps: int | None) -> tuple[ModelCheckpoint, list[Callback]]:
    """Checkpoint of the selected epoch, and those to resume from.

    Args:
        run: the run's folder.
        every_n_steps: also save in mid-epoch, every so many steps; None for epochs' ends only.
    """
    common: dict[str, Any] = {"dirpath": run.last.parent, "enable_version_counter": False, "save_top_k": 1}
    best = ModelCheckpoint(filename="best", monitor="valid/monitor", mode="max", **common)
    resume: list[Callback] = [
        ModelCheckpoint(filename="last", every_n_epochs=1, save_on_train_epoch_end=True, **common)
    ]
    if every_n_steps:
        resume.append(MidEpochCheckpoint(filename="last", every_n_train_steps=every_n_steps, **common))
    return best, [*resume, StayStopped()]
