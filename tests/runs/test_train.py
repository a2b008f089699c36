import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
import torch

from crossrec.commands.train import composed
from crossrec.errors import CrossrecError
from crossrec.runs.store import RunFolder
from crossrec.runs.summary import find_runs
from crossrec.runs.train import train


def run(words: list[str]) -> RunFolder:
    config = composed(words)
    before = {r.id for r in find_runs(Path(config["paths"]["runs"]))}
    train(config, words)
    after = find_runs(Path(config["paths"]["runs"]))
    return next((r for r in after if r.id not in before), after[-1])


def test_a_run_folder_is_self_sufficient(small: list[str]) -> None:
    made = run(small)
    assert made.finished
    for name in ("config.yaml", "overrides.json", "versions.json", "corpus.json", "status.json", "log/metrics.csv"):
        assert (made.path / name).is_file(), name
    metrics = made.metrics
    assert metrics["split"]["test"] > 0
    table = pl.read_parquet(made.path / "per_user" / "b.parquet")
    assert table.height == metrics["test"]["test/b/n_queries"]
    assert table["ndcg@10"].mean() == pytest.approx(metrics["test"]["test/b/ndcg@10"], abs=1e-12)
    for checkpoint in (made.best, made.last):
        assert "state_dict" in torch.load(checkpoint, weights_only=True)


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
    assert train(composed(small), small) == made.metrics["best_score"]
    assert (made.best.stat().st_mtime_ns, made.status["ended"]) == (stamp, ended)


def test_a_failed_run_says_so_and_the_same_line_mends_it(small: list[str]) -> None:
    bad = [*small, "evaluation.monitor=nonsense@3"]
    with pytest.raises(CrossrecError, match="nonsense@3 is not computed"):
        run(bad)
    failed = find_runs(Path(composed(bad)["paths"]["runs"]))[0]
    assert failed.status["state"] == "failed"
    assert not (failed.path / "metrics.json").exists()


def test_two_processes_never_run_the_same_run(small: list[str]) -> None:
    made = run(small)
    (made.path / "metrics.json").unlink()
    with made.lock(), pytest.raises(CrossrecError, match="being run by another process"):
        train(composed(small), small)


@pytest.mark.parametrize("every", [None, 3], ids=["epoch", "mid-epoch"])
def test_killed_in_mid_epoch_and_resumed_gives_the_metrics_of_the_uninterrupted_run(
    small: list[str], tmp_path: Path, every: int | None
) -> None:
    words = [
        *small, "user_encoder=transformer", "objective=sampled_softmax", "strategy=mmd", "trainer.max_epochs=6", "batch_size=16",
        "history_length=8", "scheduler=cosine", f"checkpoint_every_n_steps={every or 'null'}",
    ]  # fmt: skip
    whole = run([*words, f"paths.runs={tmp_path / 'whole'}"])
    folder = tmp_path / "killed"
    line = [sys.executable, "-m", "crossrec", "train", *words, f"paths.runs={folder}"]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=_slow(tmp_path))
    last = folder / whole.id / "checkpoints" / "last.ckpt"
    for _ in range(1200):
        if last.is_file() or process.poll() is not None:
            break
        time.sleep(0.05)
    assert process.poll() is None, process.stderr.read().decode()[-2000:] if process.stderr else ""
    time.sleep(0.4)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    state = json.loads((folder / whole.id / "status.json").read_text())["state"]
    assert state == "running"
    assert not (folder / whole.id / "metrics.json").exists()
    resumed = run([*words, f"paths.runs={folder}"])
    assert resumed.id == whole.id
    assert resumed.metrics == whole.metrics
    best = [torch.load(r.best, weights_only=True)["state_dict"] for r in (whole, resumed)]
    assert all(torch.equal(best[0][key], best[1][key]) for key in best[0])


def _slow(tmp_path: Path) -> dict[str, str]:
    """Environment in which every training step takes 50 ms longer, so that the kill falls into an epoch."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys, threading, time\n"
        "def patch():\n"
        "    while 'crossrec.strategies.base' not in sys.modules or not hasattr(sys.modules['crossrec.strategies.base'], 'Strategy'):\n"
        "        time.sleep(0.001)\n"
        "    strategy = sys.modules['crossrec.strategies.base'].Strategy\n"
        "    start = strategy.on_train_batch_start\n"
        "    def slow(self, batch, batch_idx):\n"
        "        time.sleep(0.05)\n"
        "        return start(self, batch, batch_idx)\n"
        "    strategy.on_train_batch_start = slow\n"
        "threading.Thread(target=patch, daemon=True).start()\n"
    )
    paths = [str(tmp_path), str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}
