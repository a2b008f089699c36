"""Two processes (gloo, on the CPU), as the command line starts them and as a launcher does."""

import csv
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import polars as pl
import pytest
from processes import in_two_processes
from running import crossrec, run

from crossrec.runs.store import RunFolder
from crossrec.runs.summary import find_runs

TWO = ["trainer=ddp", "trainer.accelerator=cpu"]


TRANSFORMER = ["user_encoder=transformer", "user_encoder.dropout=0", "batch_size=15", "data.source.n_users=121"]


def losses(made: RunFolder) -> list[float]:
    with open(made.path / "log" / "metrics.csv", newline="") as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


def same(one: RunFolder, two: RunFolder) -> None:
    """Equal up to the order of sums in float32."""
    assert one.id == two.id and two.finished
    assert losses(two) == pytest.approx(losses(one), abs=1e-5)
    for stage in ("valid", "test"):
        assert two.metrics[stage] == pytest.approx(one.metrics[stage], abs=1e-4)
    assert [two.metrics[k] for k in ("best_epoch", "epochs", "split")] == [
        one.metrics[k] for k in ("best_epoch", "epochs", "split")
    ]
    tables = [pl.read_parquet(r.path / "per_user" / "b.parquet") for r in (one, two)]
    assert tables[0]["name"].to_list() == tables[1]["name"].to_list()


@pytest.mark.slow
def test_two_processes_train_what_one_trains(small: list[str], tmp_path: Path) -> None:
    words = [*small, "objective=bpr", "data.source.n_users=121"]
    one = run([*words, f"paths.runs={tmp_path / 'one'}"])
    done = crossrec("train", *words, *TWO, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (two,) = find_runs(tmp_path / "runs")
    same(one, two)
    assert done.stdout.count("run folder:") == 1
    assert sorted(p.name for p in (two.path / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    assert sorted(p.name for p in (two.path / "log").iterdir() if p.suffix == ".csv") == ["metrics.csv"]


LINES = {
    "weighted bce": ["objective=bce", "strategy=cmf", "strategy.domain_weights={a: 0.3}", "data.source.n_users=121"],
    "mmd of sequences": ["objective=softmax", "user_encoder=mean", "strategy=mmd", "batch_size=15"],
    # what is compared depends on which of a user's rows in a batch is taken
    "mmd": [*TRANSFORMER, "strategy=mmd", "adaptation=[mmd,joint_mmd]"],
    "contrastive": [*TRANSFORMER, "strategy=contrastive", "adaptation.contrastive.weight=1"],
    "shared and private": [*TRANSFORMER, "strategy=shared_private", "adaptation=[joint_mmd,difference,simse]"],
    # negatives are those of the global batch
    "in-batch": [
        *TRANSFORMER, "objective=in_batch_softmax", "objective.mask_history=true", "strategy.domain_weights={a: 0.3}",
    ],
}  # fmt: skip


def train_all(small: list[str], rank: int) -> None:
    os.environ.update(LOCAL_RANK=str(rank), NODE_RANK="0")  # as a launcher that starts both processes tells them
    for more in LINES.values():
        run([*small, *more, *TWO])


@pytest.mark.slow
def test_two_processes_that_are_there_train_one_run_after_the_other(small: list[str], tmp_path: Path) -> None:
    in_two_processes(partial(train_all, small), timeout=240)
    for name, more in LINES.items():
        one = run([*small, *more, f"paths.runs={tmp_path / 'one'}"])
        print(name)
        same(one, RunFolder(tmp_path / "runs" / one.id))
    assert len(find_runs(tmp_path / "runs")) == len(LINES)


@pytest.mark.slow
def test_the_installed_script_starts_them_too_and_a_sweep_goes_on(small: list[str], tmp_path: Path) -> None:
    script = Path(sys.executable).parent / "crossrec"
    if not script.is_file():
        pytest.skip("crossrec is not installed beside this Python: pip install -e .")
    first = run([*small, f"paths.runs={tmp_path / 'one'}"])
    second = run([*small, "seed=1", f"paths.runs={tmp_path / 'one'}"])
    line = [str(script), "train", "-m", *small, *TWO]
    for seeds in ("0", "0,1"):  # the second line finds one run finished and trains the other
        done = subprocess.run(
            [*line, f"seed={seeds}"], capture_output=True, text=True, cwd=tmp_path, check=False, timeout=300
        )
        assert done.returncode == 0, done.stderr
    for one in (first, second):
        same(one, RunFolder(tmp_path / "runs" / one.id))
    assert len(find_runs(tmp_path / "runs")) == 2
