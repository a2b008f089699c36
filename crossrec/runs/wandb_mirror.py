"""A W&B run that can fail without what it mirrors."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from crossrec.errors import CrossrecError

GRACE = 10.0
"""Seconds that a W&B call gets beyond its own timeout, or in all where it has none."""

ONLINE = ("online", "run")


class Mirror:
    """One W&B run whose calls neither raise nor hang: the first failure is told in one line on stderr.

    Where W&B cannot be reached the run is kept on disk, below ``folder/wandb``, for ``wandb sync``. It never is a run
    that is already open in the process, and no call asks for a key.

    Args:
        folder: gets ``wandb/``.
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
        self.run = wandb.init(**arguments, mode=mode, settings=settings)

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
        timeout = GRACE if self._hangs else self._finish_timeout + GRACE
        error = self._guarded(lambda: self.run.finish(exit_code=exit_code), timeout)
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
