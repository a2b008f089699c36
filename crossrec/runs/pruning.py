"""Stop a run that `crossrec tune` started as soon as its trial is behind the others."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn

from crossrec.errors import CrossrecError
from crossrec.runs.trial_storage import TrialAddress, open_storage, open_study


class Pruned(CrossrecError):
    """The run is behind the other trials of its study; it is not finished, and can be resumed."""


class Pruning(Callback):
    """Report ``valid/monitor`` after each validation of a trial, and end the run where the pruner says so.

    The run ends before the epoch's checkpoints are written, so that a resumed run repeats this epoch and arrives at the
    metrics of a run that was never pruned.

    Args:
        address: the trial.
    """

    def __init__(self, address: TrialAddress) -> None:
        self.address = address
        self._opened: tuple[Any, Any, int] | None = None

    @classmethod
    def from_environment(cls) -> list[Pruning]:
        """Return the callback that ``CROSSREC_TRIAL`` asks for; an empty list where it is not set."""
        address = TrialAddress.from_environment()
        return [] if address is None else [cls(address)]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the epoch's validation metric.

        Raises:
            Pruned: on every rank, where the trial is behind the others at this epoch.
        """
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        epoch, value = trainer.current_epoch, float(trainer.callback_metrics["valid/monitor"])
        behind = self._report(epoch, value) if trainer.is_global_zero else False
        if trainer.strategy.broadcast(behind):
            raise Pruned(f"trial {self.address.trial} is behind the others at epoch {epoch} with {value:.4f}")

    def _report(self, epoch: int, value: float) -> bool:
        if self._opened is None:
            self._opened = self._open()
        storage, study, trial_id = self._opened
        if storage.get_trial(trial_id).state.is_finished():  # told already: a run that a killed tuner left behind
            return False
        storage.set_trial_intermediate_value(trial_id, epoch, value)
        return bool(study.pruner.prune(study, storage.get_trial(trial_id)))

    def _open(self) -> tuple[Any, Any, int]:
        storage = open_storage(self.address.storage)
        study = open_study(storage, self.address.study)
        study_id = storage.get_study_id_from_name(self.address.study)
        return storage, study, storage.get_trial_id_from_study_id_trial_number(study_id, self.address.trial)
