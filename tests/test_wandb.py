import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import wandb_records as on_disk
from running import crossrec, run
from wandb_home import metrics, mirror, new_machine, told  # noqa: F401

from crossrec.commands.train import composed
from crossrec.errors import CrossrecError
from crossrec.runs.store import RunFolder
from crossrec.runs.wandb_log import run_name, wandb_log
from crossrec.studies.compare_plots import learning_curves

wandb = pytest.importorskip("wandb", reason="pip install 'crossrec[wandb]'")
pytestmark = pytest.mark.usefixtures("new_machine")


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
    curves = learning_curves(with_it)
    assert curves is not None and curves.equals(learning_curves(without))


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
    curves = learning_curves(made)
    assert curves is not None and curves["epoch"].to_list() == [0, 1]


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
