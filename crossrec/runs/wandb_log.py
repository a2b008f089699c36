"""Weights & Biases as a run's logger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.loggers.logger import DummyExperiment  # type: ignore[attr-defined]

from crossrec.config import build, target_name
from crossrec.runs.store import RunFolder
from crossrec.runs.summary import item_encoder_name
from crossrec.runs.wandb_mirror import Mirror


class WandbLog(Logger):
    """Lightning's view of a run's :class:`Mirror`: one row of metrics for an epoch, nothing for a step.

    Args:
        mirror: None in every process but the one that writes the run's record.
        project: W&B project.
        run: the run's folder.
    """

    def __init__(self, mirror: Mirror | None, project: str, run: RunFolder) -> None:
        super().__init__()
        self._mirror, self._project, self._run = mirror, project, run

    @property
    def name(self) -> str:
        """The W&B project."""
        return self._project

    @property
    def version(self) -> str:
        """The run id."""
        return self._run.id

    @property
    def save_dir(self) -> str:
        """The run folder."""
        return str(self._run.path)

    @property
    def experiment(self) -> Any:
        """The W&B run, for callbacks that log more than numbers; takes every call where there is none."""
        return DummyExperiment() if self._mirror is None or self._mirror.run is None else self._mirror.run

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log scalars at an optimizer step."""
        if self._mirror is not None:
            row = {**metrics} if step is None else {**metrics, "trainer/global_step": step}
            self._mirror.do("takes no metrics", lambda run: run.log(row))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Log nothing: the whole config is there from the start."""

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mirror": None}  # a W&B run stays in its process


@contextmanager
def wandb_log(config: Mapping[str, Any], run: RunFolder, *, main: bool) -> Iterator[WandbLog]:
    """Open the W&B run of a run; it is finished however the run ends, with the final metrics in its summary.

    Args:
        config: the resolved config; ``logger`` holds the arguments of :class:`Mirror`.
        run: its folder.
        main: whether this process writes the run's record; others log nothing.

    Raises:
        CrossrecError: wandb is not installed, or ``logger`` has a key that means nothing.
    """
    node = {key: value for key, value in config["logger"].items() if key != "_target_"}
    if not main:
        yield WandbLog(None, node["project"], run)
        return
    node["tags"] = [*tags(config), *(node.get("tags") or [])]
    resume = run.last.is_file()
    node["_target_"] = "crossrec.runs.wandb_mirror.Mirror"
    mirror = build(node, folder=run.path, id=run.id, resume=resume, name=run_name(config), config=config)
    mirror.do("takes no axis", _set_axis)
    status = 1
    try:
        yield WandbLog(mirror, node["project"], run)
        mirror.do("takes no summary", lambda wandb_run: wandb_run.summary.update(_summary(run.metrics)))
        status = 0
    finally:
        mirror.finish(status)


def run_name(config: Mapping[str, Any]) -> str:
    """``[<job type>: ]<strategy>[-<adaptation>] <items> <target> seed <n>``.

    The job type is the row's name in a study; an adaptation named as its strategy is not repeated.
    """
    strategy, adaptation = target_name(config["strategy"]), "+".join(config["adaptation"])
    kind = strategy if adaptation in ("", strategy) else f"{strategy}-{adaptation}"
    target = config["target"] or "all"
    row = (config["logger"] or {}).get("job_type")
    own = f"{kind} {item_encoder_name(config['item_encoder'])} {target} seed {config['seed']}"
    return f"{row}: {own}" if row else own


def tags(config: Mapping[str, Any]) -> list[str]:
    """Strategy, data and target of a run."""
    return [target_name(config["strategy"]), target_name(config["data"]["source"]), str(config["target"] or "all")]


def _set_axis(run: Any) -> None:
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)


def _summary(metrics: Mapping[str, Any]) -> dict[str, Any]:
    single = {key: metrics[key] for key in ("best_epoch", "best_score") if metrics[key] is not None}
    return {**metrics["valid"], **metrics["test"], **single}
