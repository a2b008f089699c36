import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb_records as on_disk
from running import run
from wandb_home import KEY, metrics, mirror, new_machine, told  # noqa: F401

from crossrec.errors import CrossrecError
from crossrec.runs import wandb_mirror

wandb = pytest.importorskip("wandb", reason="pip install 'crossrec[wandb]'")
pytestmark = pytest.mark.usefixtures("new_machine")


# ---- online or offline --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "offline", "mode"),
    [
        ({}, None, "offline"),
        ({"WANDB_API_KEY": KEY}, None, "online"),
        ({"WANDB_API_KEY": KEY}, True, "offline"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": "offline"}, False, "offline"),
        ({"WANDB_API_KEY": KEY, "WANDB_MODE": "online"}, True, "online"),
        ({"WANDB_MODE": "disabled"}, False, "disabled"),
        ({"NETRC": "has the key"}, None, "online"),
        ({"settings": "mode = offline", "WANDB_API_KEY": KEY}, None, "offline"),
        ({"settings": f"api_key = {KEY}"}, None, "online"),
    ],
)
def test_online_exactly_when_a_key_is_known(
    environment: dict[str, str], offline: bool | None, mode: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment = dict(environment)
    if "NETRC" in environment:
        (tmp_path / "netrc").write_text(f"machine 127.0.0.1:9 login user password {KEY}\n")
        environment["NETRC"] = str(tmp_path / "netrc")
    if "settings" in environment:
        (tmp_path / "settings").write_text(f"[default]\n{environment.pop('settings')}\n")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    asked = []
    monkeypatch.setattr(wandb, "init", lambda **a: asked.append(a["mode"]) or SimpleNamespace())
    mirror(tmp_path, offline=offline)
    assert asked == [mode]


def _nothing(*args: Any, **kwargs: Any) -> None:
    """Take every call."""


def test_online_without_a_key_asks_nobody_and_logs_offline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = mirror(tmp_path, offline=False)
    (path,) = on_disk.offline_runs(tmp_path)
    (line,) = told(capsys)
    assert "no API key is known: `wandb login`" in line and f"wandb sync {path.parent}" in line
    assert made.do("log", lambda r: r.log({"x": 1}))
    assert not made.finish(0)  # it is not on the server


def test_a_server_out_of_reach_leaves_the_run_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    made = mirror(tmp_path, init_timeout=1.0, finish_timeout=1.0)
    assert made.do("log", lambda r: r.log({"x": 1}))
    made.finish(0)
    (path,) = on_disk.offline_runs(tmp_path)
    assert [r["x"] for r in on_disk.rows(path)] == [1]
    (line,) = told(capsys)
    assert "W&B cannot be reached" in line and line.endswith(f"upload it with: wandb sync {path.parent}")


# ---- failures -----------------------------------------------------------------------------------------------------


def test_a_run_without_wandb_is_the_same_run(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = run([*small, f"paths.runs={tmp_path / 'reference'}"])

    def broken(**arguments: Any) -> None:
        raise OSError(28, "No space left\non device")

    monkeypatch.setattr(wandb, "init", broken)
    capsys.readouterr()
    made = run([*small, "logger=wandb"])
    assert made.finished and metrics(made) == metrics(reference)
    (line,) = told(capsys)
    assert line.startswith("crossrec: warning: W&B did not start (OSError: [Errno 28] No space left on device)")


def test_calls_that_fail_in_the_middle_are_told_once(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = run([*small, f"paths.runs={tmp_path / 'reference'}"])
    from wandb.sdk.wandb_run import Run

    log, finish, calls = Run.log, Run.finish, []

    def fails_later(self: Any, row: Any) -> None:
        calls.append(row)
        if len(calls) == 2:
            raise RuntimeError("broken pipe")
        log(self, row)

    def finishes_and_fails(self: Any, exit_code: int) -> None:
        finish(self, exit_code)
        raise RuntimeError("no")

    monkeypatch.setattr(Run, "log", fails_later)
    monkeypatch.setattr(Run, "finish", finishes_and_fails)
    capsys.readouterr()
    made = run([*small, "logger=wandb"])
    assert made.finished and metrics(made) == metrics(reference)
    (path,) = on_disk.offline_runs(made.path)
    assert told(capsys) == [
        f"crossrec: warning: W&B takes no metrics (RuntimeError: broken pipe); upload it with: wandb sync {path.parent}"
    ]
    assert len(calls) == 6 and len(on_disk.rows(path)) == 5  # it is tried again


@pytest.mark.parametrize("call", ["log", "finish"])
def test_calls_that_hang_are_left(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    release, calls = threading.Event(), []
    fake = SimpleNamespace(dir=str(tmp_path / "wandb/run-1-r/files"), log=_nothing, finish=_nothing)
    setattr(fake, call, lambda *a, **k: calls.append(1) or release.wait(30))
    monkeypatch.setattr(wandb, "init", lambda **a: fake)
    monkeypatch.setattr(wandb_mirror, "GRACE", 0.2)
    made = mirror(tmp_path, offline=True, finish_timeout=0.2)
    for _ in range(3):
        made.do("takes no metrics", lambda r: r.log({"x": 1}))
    assert not made.finish(0)
    assert len(calls) == 1  # nobody waits twice
    (line,) = told(capsys)
    assert "no answer in 0 s" in line and f"wandb sync {tmp_path / 'wandb/run-1-r'}" in line
    release.set()


def test_a_start_that_hangs_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    release = threading.Event()
    monkeypatch.setattr(wandb, "init", lambda **a: release.wait(30))
    monkeypatch.setattr(wandb_mirror, "GRACE", 0.5)
    made = mirror(tmp_path, offline=True, init_timeout=0.1)
    assert not made.do("log", lambda r: r.log({})) and not made.finish(0)
    (line,) = told(capsys)
    assert "did not start (TimeoutError" in line
    release.set()


def test_wandb_missing(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(CrossrecError, match=r"pip install 'crossrec\[wandb\]'"):
        run([*small, "logger=wandb"])


def test_a_misspelt_key(small: list[str]) -> None:
    with pytest.raises(CrossrecError, match="grup"):
        run([*small, "logger=wandb", "+logger.grup=x"])
