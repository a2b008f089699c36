"""A Hydra sweeper that launches a given list of jobs; Hydra takes plugins from the ``hydra_plugins`` namespace only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class StudySweeper(Sweeper):
    """Hand the jobs of a study to the launcher, which is whichever the user chose.

    Args:
        jobs: JSON file with one list of overrides for each job.
        options: read by the job itself (:func:`crossrec.studies.engine.run_job`).
    """

    def __init__(self, jobs: str, **options: Any) -> None:
        self.jobs = jobs
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Make the launcher."""
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Launch all jobs as one batch."""
        assert self.launcher is not None
        jobs = json.loads(Path(self.jobs).read_text())
        return self.launcher.launch([[*arguments, *words] for words in jobs], initial_job_idx=0)
