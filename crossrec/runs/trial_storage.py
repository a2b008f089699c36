"""Where `crossrec tune` keeps its trials, and how a run is told which of them it is."""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

from crossrec.errors import CrossrecError

VARIABLE = "CROSSREC_TRIAL"
"""Environment variable that tells a run which trial it is. It is no config key, for it does not change what a run is:
the same run without it goes on to its end."""


class TrialAddress(NamedTuple):
    """A trial in a storage.

    Attributes:
        storage: URL of the Optuna storage, such as ``sqlite:////runs/tune/study.db``.
        study: name of the Optuna study.
        trial: number of the trial.
    """

    storage: str
    study: str
    trial: int

    def dump(self) -> str:
        """Return the value of ``CROSSREC_TRIAL``: JSON of the attributes."""
        return json.dumps(self._asdict())

    @classmethod
    def from_environment(cls) -> TrialAddress | None:
        """Return the trial that this process is; None where ``CROSSREC_TRIAL`` is not set.

        Raises:
            CrossrecError: the variable is not such JSON.
        """
        text = os.environ.get(VARIABLE)
        if not text:
            return None
        try:
            about = json.loads(text)
            return cls(str(about["storage"]), str(about["study"]), int(about["trial"]))
        except (ValueError, KeyError, TypeError):
            raise CrossrecError(
                f"{VARIABLE} is {text!r}, not JSON with storage, study and trial: `crossrec tune` sets it; unset it"
            ) from None


def optuna_module() -> Any:
    """Import Optuna, quietly.

    Raises:
        CrossrecError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise CrossrecError("crossrec tune needs Optuna: pip install 'crossrec[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def open_storage(url: str) -> Any:
    """Open the storage of trials.

    SQLite rather than Optuna's journal file: the tuner and its trials are processes of one machine, and a killed one
    leaves no lock file behind. A process waits up to a minute for another's write.
    """
    optuna = optuna_module()
    return optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})


def open_study(storage: Any, name: str, sampler: Any = None) -> Any:
    """Open or make a study that maximises, pruned against the median trial after the first five."""
    optuna = optuna_module()
    return optuna.create_study(
        storage=storage,
        study_name=name,
        sampler=sampler,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5),
        direction="maximize",
        load_if_exists=True,
    )
