import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping
from running import REPO, break_off, crossrec, here, run

from crossrec.commands.train import composed
from crossrec.errors import CrossrecError
from crossrec.runs.store import RunFolder
from crossrec.runs.summary import find_runs
from crossrec.runs.train import train
from crossrec.strategies.base import Strategy


def test_a_run_folder_is_self_sufficient(small: list[str]) -> None:
    made = run(small)
    assert made.finished
    for name in ("config.yaml", "overrides.json", "versions.json", "corpus.json", "status.json", "log/metrics.csv"):
        assert (made.path / name).is_file(), name
    metrics = made.metrics
    assert metrics["split"]["domains"]["b"]["test"] == metrics["test"]["test/b/n_queries"] > 0
    table = polars.read_parquet(made.path / "per_user" / "b.parquet")
    assert table.height == metrics["test"]["test/b/n_queries"]
    assert table["ndcg@10"].mean() == pytest.approx(metrics["test"]["test/b/ndcg@10"], abs=1e-12)
    for checkpoint in (made.best, made.last):
        assert "state_dict" in torch.load(checkpoint, weights_only=True)


def test_callbacks_and_the_log_get_every_metric_of_every_epoch(
    small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(values: Mapping[str, Any]) -> dict[str, float]:
        return {k: float(v) for k, v in values.items() if v is not None and k.startswith(("valid/", "test/"))}

    def note(self: EarlyStopping, trainer: pl.Trainer, model: Strategy) -> None:
        seen.append(measured(trainer.callback_metrics))

    seen: list[dict[str, float]] = []
    monkeypatch.setattr(EarlyStopping, "on_validation_end", note)
    made = run([*small, "target=all"])
    *rows, tested = filter(None, map(measured, polars.read_csv(made.path / "log" / "metrics.csv").to_dicts()))
    assert rows == seen and len(seen) == 3  # two epochs, and the better one again
    assert seen[-1] == seen[made.metrics["best_epoch"]]
    valid, test = ({k: v for k, v in made.metrics[s].items() if k.count("/") == 2} for s in ("valid", "test"))
    assert {"valid/a/ndcg@10", "valid/macro/ndcg@10"} < set(valid)
    assert seen[-1] == pytest.approx({**valid, "valid/monitor": made.metrics["best_score"]})
    assert tested == pytest.approx(test)


@pytest.mark.parametrize(
    "more",
    [
        ["strategy=mmd"],
        ["user_encoder=transformer", "objective=sampled_softmax", "history_length=10"],
    ],
    ids=["id", "transformer"],
)
def test_same_seed_same_metrics_byte_for_byte_and_another_seed_differs(
    small: list[str], tmp_path: Path, more: list[str]
) -> None:
    words = [*small, *more]
    first = run(words)
    again = run([*words, f"paths.runs={tmp_path / 'again'}"])
    other = run([*words, f"paths.runs={tmp_path / 'other'}", "seed=1"])
    assert first.id == again.id != other.id
    read = [(r.path / "metrics.json").read_bytes() for r in (first, again, other)]
    assert read[0] == read[1] != read[2]


def test_a_finished_run_is_returned_without_training(small: list[str]) -> None:
    made = run(small)
    stamp = made.best.stat().st_mtime_ns
    ended = made.status["ended"]
    assert run(small).selected == made.metrics["best_score"]
    assert (made.best.stat().st_mtime_ns, made.status["ended"]) == (stamp, ended)


def test_a_failed_run_says_so_and_the_same_line_mends_it(small: list[str]) -> None:
    break_off(small, 2)
    (failed,) = find_runs(Path(composed(small)["paths"]["runs"]))
    assert failed.status["state"] == "failed" and "ZeroDivisionError" in failed.status["error"]
    assert not (failed.path / "metrics.json").exists()
    assert run(small).path == failed.path and failed.finished


def test_two_processes_never_run_the_same_run(small: list[str]) -> None:
    made = run(small)
    (made.path / "metrics.json").unlink()
    with made.lock(), pytest.raises(CrossrecError, match="being run by another process"):
        train(composed(small), small)


HANG = """
import pathlib, sys, time
from crossrec.cli import main
from crossrec.strategies.base import Strategy
step, marker = int(sys.argv[1]), pathlib.Path(sys.argv[2])
start = Strategy.on_train_batch_start
def hang(self, batch, batch_idx):
    if self.global_step == step:
        marker.write_text(str(batch_idx))
        time.sleep(600)
    return start(self, batch, batch_idx)
Strategy.on_train_batch_start = hang
main(sys.argv[3:])
"""
"""A command line that stands still before training step argv[1], and says so by the file argv[2]."""


def kill_at(step: int, words: list[str], folder: Path) -> int:
    """Train in a process that is killed (SIGKILL) before step ``step``; the number of its batch in the epoch."""
    marker = folder / "stands-still"
    folder.mkdir()
    line = [sys.executable, "-c", HANG, str(step), str(marker), "train", *words, f"paths.runs={folder}"]
    with open(folder / "errors", "w") as errors:
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=errors, cwd=REPO)
        try:
            for _ in range(2400):
                if marker.is_file() and marker.read_text():
                    break
                assert process.poll() is None, (folder / "errors").read_text()[-2000:]
                time.sleep(0.05)
        finally:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
    return int(marker.read_text())


@pytest.mark.parametrize(("every", "saved"), [(None, "epoch"), (3, "step")], ids=["epoch", "mid-epoch"])
def test_killed_in_mid_epoch_and_resumed_gives_the_metrics_of_the_uninterrupted_run(
    small: list[str], tmp_path: Path, every: int | None, saved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        *small, "user_encoder=transformer", "objective=sampled_softmax", "strategy=mmd", "trainer.max_epochs=4",
        "batch_size=16", "history_length=8", "scheduler=cosine", f"checkpoint_every_n_steps={every or 'null'}",
    ]  # fmt: skip
    whole = run([*words, f"paths.runs={tmp_path / 'whole'}"])
    total = torch.load(whole.last, weights_only=True)["global_step"]
    per_epoch = total // 4
    assert per_epoch >= 10
    folder = tmp_path / "killed"
    batch = kill_at(per_epoch + 8, words, folder)
    assert batch == 8  # in the middle of the second epoch
    killed = RunFolder(folder / whole.id)
    assert killed.status["state"] == "running"
    assert not (killed.path / "metrics.json").exists()
    checkpoint = torch.load(killed.last, weights_only=True)["global_step"]
    assert checkpoint == (per_epoch if saved == "epoch" else (per_epoch + 8) // 3 * 3)

    steps = []
    original = Strategy.training_step
    monkeypatch.setattr(
        Strategy, "training_step", lambda self, *a: steps.append(self.global_step) or original(self, *a)
    )
    resumed = run([*words, f"paths.runs={folder}"])
    assert resumed.id == whole.id
    assert steps == list(range(checkpoint, total))  # it went on where it stood, and redid nothing before
    assert (resumed.path / "metrics.json").read_bytes() == (whole.path / "metrics.json").read_bytes()
    logs = [polars.read_csv(r.path / "log" / "metrics.csv", infer_schema=False) for r in (whole, resumed)]
    assert (
        logs[0].sort("step", "train/loss", "valid/monitor").equals(logs[1].sort("step", "train/loss", "valid/monitor"))
    )
    for name in ("best", "last"):
        states = [torch.load(getattr(r, name), weights_only=True)["state_dict"] for r in (whole, resumed)]
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_the_record_can_be_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    from crossrec.runs.store import write_json

    write_json(tmp_path / "a.json", {"x": 1})
    (tmp_path / "b").touch()
    assert (tmp_path / "a.json").stat().st_mode == (tmp_path / "b").stat().st_mode
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("precision", ["bf16-true", "64-true", "eight"])
def test_a_precision_that_would_cast_ids_is_refused(small: list[str], precision: str) -> None:
    with pytest.raises(CrossrecError, match=rf"trainer\.precision={precision} must be 32-true, 16-mixed, bf16-mixed"):
        run([*small, f"trainer.precision={precision}"])


def test_folders_of_configs_are_on_record(small: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "conf" / "experiment"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("# @package _global_\nseed: 3\ntrainer: {max_epochs: 1}\n")
    done = crossrec("train", "--config-dir", "conf", "experiment=mine", *small[:-3], "strategy=merged", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (made,) = find_runs(tmp_path / "runs")
    assert made.config_dirs == [tmp_path / "conf"]
    assert made.line(["seed=1"]) == f"crossrec train --config-dir {tmp_path / 'conf'} seed=1"
    # the twin is made from the same folder
    told = here("transfer", str(made.path), cwd=tmp_path)
    assert told.returncode == 1 and f"crossrec train --config-dir {tmp_path / 'conf'} experiment=mine" in told.stdout
