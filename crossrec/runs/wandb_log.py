"""Weights & Biases as a mirror of a run: whatever happens to it, the run goes on."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.loggers.logger import DummyExperiment  # type: ignore[attr-defined]

from crossrec.config import build, target_name
from crossrec.errors import CrossrecError
from crossrec.runs.store import RunFolder
from crossrec.runs.summary import item_encoder_name

GRACE = 10.0
"""Seconds that a W&B call gets beyond its own timeout, or in all where it has none."""

ONLINE = ("online", "run")


class Mirror:
    """One W&B run whose calls neither raise nor hang: the first failure is told in one line on stderr.

    Where W&B cannot be reached the run is kept on disk, below ``folder/wandb``, for ``wandb sync``. It never is a run
    that is already open in the process, and no call asks for a key.

    Args:
        folder: existing folder that gets ``wandb/``.
        project: W&B project.
        name: of the run, as shown.
        config: plain values.
        id: of the run; None for a new one.
        resume: go on with the run of that ``id``; otherwise a run of that id is replaced.
        entity: W&B user or team.
        group: such as the study's name.
        job_type: such as the row's name.
        tags: of the run; empty ones and repetitions are left out.
        offline: None for online exactly when wandb knows an API key; ``WANDB_MODE`` wins.
        init_timeout: seconds to wait for the server.
        finish_timeout: seconds to wait for the last upload.

    Raises:
        CrossrecError: wandb is not installed.
    """

    def __init__(
        self,
        folder: Path,
        *,
        project: str,
        name: str,
        config: Mapping[str, Any],
        id: str | None = None,
        resume: bool = False,
        entity: str | None = None,
        group: str | None = None,
        job_type: str | None = None,
        tags: Sequence[str] = (),
        offline: bool | None = None,
        init_timeout: float = 30.0,
        finish_timeout: float = 300.0,
    ) -> None:
        self.run: Any = None
        self.failed = False
        self._hangs = False
        self._finish_timeout = finish_timeout
        self._settings: dict[str, Any] = {
            "init_timeout": init_timeout,
            "finish_timeout": finish_timeout,
            "finish_timeout_raises": True,
            # a mirror of numbers: it neither prints its own summary nor takes over stdout
            **({} if "WANDB_QUIET" in os.environ else {"quiet": True}),
            **({} if "WANDB_CONSOLE" in os.environ else {"console": "off"}),
        }
        arguments: dict[str, Any] = {
            "dir": str(folder),
            "project": project,
            "name": name,
            "config": dict(config),
            "id": id,
            "resume": "allow" if resume else None,
            "entity": entity,
            "group": group,
            "job_type": job_type,
            "tags": [tag[:64] for tag in dict.fromkeys(tags) if tag],  # W&B takes 1 to 64 characters
            "reinit": "create_new",
        }
        try:
            import wandb

            wandb.init  # noqa: B018 - a folder ./wandb of logs imports as an empty package
        except (ModuleNotFoundError, AttributeError) as error:
            if isinstance(error, AttributeError) or error.name == "wandb":
                raise CrossrecError("W&B is not installed: pip install 'crossrec[wandb]'") from None
            return self._warn("is broken", error, "the run goes on without it")
        except Exception as error:
            return self._warn("is broken", error, "the run goes on without it")
        self._start(arguments, offline, init_timeout)

    def _start(self, arguments: dict[str, Any], offline: bool | None, timeout: float) -> None:
        mode, error = self._mode(offline)
        if error is None:
            error = self._guarded(lambda: self._init(arguments, mode), timeout + GRACE)
            if error is None:
                return
        if mode in ONLINE and not self._hangs and self._guarded(lambda: self._restart(arguments), 2 * GRACE) is None:
            return self._warn("cannot be reached", error, f"this run is logged offline; {self._mend()}")
        self.run = None
        self._warn("did not start", error, "the run goes on without it")

    def _mode(self, offline: bool | None) -> tuple[str, BaseException | None]:
        """The mode to start in, and what speaks against it."""
        wanted = os.environ.get("WANDB_MODE") or (None if offline is None else "offline" if offline else "online")
        if wanted is not None and wanted not in ONLINE:
            return wanted, None
        found: list[str | bool] = []
        error = self._guarded(lambda: found.extend(_known()), GRACE)
        configured, key = (str(found[0]), bool(found[1])) if len(found) == 2 else ("online", False)
        if wanted is None and configured not in ONLINE:
            return configured, None  # `wandb offline` and `wandb disabled` leave it in the settings
        if key:
            return "online", None
        if error is None and wanted is None:
            return "offline", None
        return "online", error or RuntimeError("no API key is known: `wandb login`, or set WANDB_API_KEY")

    def _init(self, arguments: Mapping[str, Any], mode: Any) -> None:
        import wandb

        fields = getattr(wandb.Settings, "model_fields", self._settings)
        settings = wandb.Settings(**{k: v for k, v in self._settings.items() if k in fields})
        Path(arguments["dir"]).mkdir(parents=True, exist_ok=True)
        run = wandb.init(**arguments, mode=mode, settings=settings)
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        self.run = run

    def _restart(self, arguments: Mapping[str, Any]) -> None:
        import wandb

        if wandb.run is None:  # a start that timed out leaves its id in use for as long as wandb's service lives
            wandb.teardown()
        self._init(arguments, "offline")

    def do(self, what: str, call: Callable[[Any], Any]) -> bool:
        """Call ``call(run)``; whether it worked.

        Args:
            what: the call in a warning: "W&B ``what``".
            call: gets the W&B run.
        """
        if self.run is None or self._hangs:
            return False
        error = self._guarded(lambda: call(self.run), GRACE)
        if error is not None:
            self._warn(what, error, self._mend())
        return error is None

    def finish(self, exit_code: int) -> bool:
        """End the W&B run, so that the next one is another; whether all of it is where it belongs."""
        if self.run is None:
            return False
        error = self._guarded(lambda: self.run.finish(exit_code=exit_code), self._finish_timeout + GRACE)
        if error is not None:
            self._warn("did not finish", error, self._mend())
        return not self.failed

    def _guarded(self, call: Callable[[], Any], timeout: float) -> BaseException | None:
        """Run ``call`` in a thread of its own, at most ``timeout`` seconds; what went wrong."""
        raised: list[BaseException] = []

        def target() -> None:
            try:
                call()
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=target, daemon=True, name="wandb")
        thread.start()
        thread.join(timeout)
        if thread.is_alive():
            self._hangs = True
            return TimeoutError(f"no answer in {timeout:.0f} s")
        return raised[0] if raised else None

    def _mend(self) -> str:
        folder = getattr(self.run, "dir", None)  # <folder>/wandb/[offline-]run-<time>-<id>/files
        return f"upload it with: wandb sync {Path(folder).parent}" if folder else "the run goes on without it"

    def _warn(self, what: str, error: BaseException | None, mend: str) -> None:
        if not self.failed:
            text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            print(f"crossrec: warning: W&B {what} ({text}); {mend}", file=sys.stderr)
        self.failed = True


def _known() -> tuple[str, bool]:
    """The mode in wandb's own settings, and whether wandb knows a key; asks neither the user nor the network."""
    import wandb

    settings = wandb.setup().settings
    try:
        from wandb.sdk.lib import wbauth

        auth = wbauth.authenticate_session(
            host=settings.base_url, source="crossrec", prompt=False, verify=False, update_session=False
        )
        return settings.mode, auth is not None
    except (ImportError, TypeError):  # before 0.31
        return settings.mode, bool(wandb.api.api_key)


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
    node["_target_"] = "crossrec.runs.wandb_log.Mirror"
    mirror = build(node, folder=run.path, id=run.id, resume=resume, name=run_name(config), config=config)
    status = 1
    try:
        yield WandbLog(mirror, node["project"], run)
        mirror.do("takes no summary", lambda wandb_run: wandb_run.summary.update(_summary(run.metrics)))
        status = 0
    finally:
        mirror.finish(status)


def run_name(config: Mapping[str, Any]) -> str:
    """``<strategy>[-<adaptation>] <items> <target> seed <n>``; an adaptation named as its strategy is not repeated."""
    strategy, adaptation = target_name(config["strategy"]), "+".join(config["adaptation"])
    kind = strategy if adaptation in ("", strategy) else f"{strategy}-{adaptation}"
    target = config["target"] or "all"
    return f"{kind} {item_encoder_name(config['item_encoder'])} {target} seed {config['seed']}"


def tags(config: Mapping[str, Any]) -> list[str]:
    """Strategy, data and target of a run."""
    return [target_name(config["strategy"]), target_name(config["data"]["source"]), str(config["target"] or "all")]


def _summary(metrics: Mapping[str, Any]) -> dict[str, Any]:
    single = {key: metrics[key] for key in ("best_epoch", "best_score") if metrics[key] is not None}
    return {**metrics["valid"], **metrics["test"], **single}
