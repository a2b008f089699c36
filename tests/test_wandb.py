import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb_records as on_disk
from running import crossrec, run

from crossrec.commands.train import composed
from crossrec.errors import CrossrecError
from crossrec.runs import wandb_mirror
from crossrec.runs.store import RunFolder
from crossrec.runs.wandb_log import run_name, wandb_log
from crossrec.runs.wandb_mirror import Mirror

wandb = pytest.importorskip("wandb", reason="pip install 'crossrec[wandb]'")

KEY = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """W&B as on a machine that has never seen it, and a server that is not there."""
    for name in ("API_KEY", "MODE", "IDENTITY_TOKEN_FILE", "RUN_GROUP", "JOB_TYPE", "PROJECT", "ENTITY"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    home = {"CONFIG_DIR": tmp_path, "CACHE_DIR": tmp_path, "DATA_DIR": tmp_path, "BASE_URL": "http://127.0.0.1:9"}
    for name, value in {**home, "SILENT": "true"}.items():
        monkeypatch.setenv(f"WANDB_{name}", str(value))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wandb.teardown()  # or it keeps the environment of the test before
    yield
    wandb.teardown()


def mirror(folder: Path, **arguments: Any) -> Mirror:
    return Mirror(folder, **{"project": "p", "name": "n", "config": {"a": 1}, "id": "r", **arguments})


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Our own lines on stderr."""
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("crossrec:")]


def metrics(made: RunFolder) -> bytes:
    return (made.path / "metrics.json").read_bytes()


# ---- what is logged -----------------------------------------------------------------------------------------------


def test_runs_in_a_row_are_named_grouped_and_separate(small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = [*small, "logger=wandb", "logger.group=table2", "logger.job_type=mmd row", "logger.tags=[mine]"]
    made = [run([*words, f"seed={seed}"]) for seed in (0, 1)]
    assert not told(capsys)
    assert wandb.run is None
    for seed, one in enumerate(made):
        (path,) = on_disk.offline_runs(one.path)  # no key: offline
        assert path.name == f"run-{one.id}.wandb" and path.parent.name.endswith(one.id)
        record = on_disk.one(path, "run")
        assert (record.run_id, record.display_name) == (one.id, f"mmd row: merged id b seed {seed}")
        assert (record.run_group, record.job_type, record.project) == ("table2", "mmd row", "crossrec")
        assert list(record.tags) == ["merged", "synthetic", "b", "mine"]
        config = on_disk.config(path)
        assert config["seed"] == seed and config["trainer"]["max_epochs"] == 2
        assert on_disk.exit_code(path) == 0
        rows = on_disk.rows(path)
        # two epochs of validation and of training, the selected epoch again, test: nothing for a step
        assert [("train/loss" in r, "valid/b/ndcg@10" in r, "test/b/ndcg@10" in r) for r in rows].count(
            (True, False, False)
        ) == 2
        assert len(rows) == 6
        assert all("trainer/global_step" in r for r in rows)
        summary = on_disk.summary(path)
        assert summary["best_epoch"] == one.metrics["best_epoch"]
        for name, value in one.metrics["test"].items():
            assert summary[name] == pytest.approx(value, abs=1e-12)


def test_the_numbers_do_not_depend_on_the_logger(small: list[str], tmp_path: Path) -> None:
    with_it = run([*small, "logger=wandb"])
    without = run([*small, f"paths.runs={tmp_path / 'without'}"])
    assert with_it.id == without.id and metrics(with_it) == metrics(without)


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_name(composed(["strategy=mmd", "seed=3"])) == "mmd id b seed 3"
    words = ["strategy=mmd", "adaptation=[mmd,function]", "target=all", "adaptation.function.function=x.y"]
    assert run_name(composed(words)) == "mmd-mmd+function id all seed 0"
    assert run_name(composed(["strategy=mmd", "logger=wandb"])) == "mmd id b seed 0"
    monkeypatch.setenv("WANDB_JOB_TYPE", "mmd weight=0.1")
    assert run_name(composed(["strategy=mmd", "logger=wandb"])) == "mmd weight=0.1: mmd id b seed 0"


def test_a_failed_run_is_finished_as_failed(small: list[str]) -> None:
    with pytest.raises(CrossrecError, match="no epoch was validated"):
        run([*small, "logger=wandb", "trainer.check_val_every_n_epoch=9"])
    runs = next(Path(w.split("=")[1]) for w in small if w.startswith("paths.runs"))
    (path,) = runs.glob("*/wandb/offline-run-*/run-*.wandb")
    assert on_disk.exit_code(path) == 1


def test_a_resumed_run_goes_on_with_its_id_and_a_fresh_one_takes_its_place(
    small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    init = wandb.init
    monkeypatch.setattr(wandb, "init", lambda **a: seen.append((a["id"], a["resume"])) or init(**a))
    from crossrec.strategies.base import Strategy

    with monkeypatch.context() as broken:

        def stop(self: Any) -> None:
            raise RuntimeError("power cut")

        broken.setattr(Strategy, "on_test_epoch_start", stop)
        with pytest.raises(RuntimeError, match="power cut"):
            run([*small, "logger=wandb"])
    made = run([*small, "logger=wandb"])
    assert seen == [(made.id, None), (made.id, "allow")]
    first, second = on_disk.offline_runs(made.path)
    assert (on_disk.exit_code(first), on_disk.exit_code(second)) == (1, 0)


def test_a_run_that_is_open_elsewhere_is_not_joined(tmp_path: Path) -> None:
    open_one = wandb.init(project="p", id="theirs", dir=str(tmp_path), mode="offline")
    own = mirror(tmp_path / "own")
    assert own.do("log", lambda r: r.log({"x": 1})) and own.finish(0)
    assert wandb.run is open_one
    open_one.finish()
    (path,) = on_disk.offline_runs(tmp_path)
    assert not on_disk.rows(path)


def test_only_the_process_that_writes_the_record_logs(small: list[str], tmp_path: Path) -> None:
    config = composed([*small, "logger=wandb"])
    with wandb_log(config, RunFolder(tmp_path / "rank1"), main=False) as logger:
        logger.log_metrics({"x": 1.0}, 0)
        logger.experiment.log({"x": 1.0})
    assert not (tmp_path / "rank1").exists()


def test_wandb_sync_finds_an_offline_run(tmp_path: Path) -> None:
    made = mirror(tmp_path)
    assert made.do("log", lambda r: r.log({"x": 1})) and made.finish(0)
    (path,) = on_disk.offline_runs(tmp_path)
    assert [r["x"] for r in on_disk.rows(path)] == [1]
    line = [sys.executable, "-m", "wandb", "sync", "--dry-run", str(path.parent)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60, env={**os.environ, "WANDB_SILENT": "false"})
    assert done.returncode == 0 and "Would sync 1 run" in done.stdout + done.stderr


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


# ---- sweeps and several processes ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_grid_in_one_process_makes_separate_runs(small: list[str], tmp_path: Path) -> None:
    grid = ["train", "-m", "seed=0,1", "logger=wandb", "logger.group=grid", *small]
    done = crossrec(*grid, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    files = list((tmp_path / "runs").glob("*/wandb/offline-run-*/run-*.wandb"))
    assert len(files) == 2
    for path in files:
        assert path.name == f"run-{path.parents[2].name}.wandb"
        assert on_disk.one(path, "run").run_group == "grid"
        assert len(on_disk.rows(path)) == 6 and on_disk.exit_code(path) == 0


@pytest.mark.slow
def test_two_processes_make_one_wandb_run(small: list[str], tmp_path: Path) -> None:
    done = crossrec("train", *small, "trainer=ddp", "trainer.accelerator=cpu", "logger=wandb", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "runs").glob("*/wandb/offline-run-*/run-*.wandb")
    assert len(on_disk.rows(path)) == 6 and on_disk.exit_code(path) == 0
