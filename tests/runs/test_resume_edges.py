import json
from types import SimpleNamespace

import polars as pl
import pytest
from pytorch_lightning.callbacks import ModelCheckpoint
from running import run

from crossrec.data.prepare import build_corpus
from crossrec.data.schema import RawDomain
from crossrec.errors import CrossrecError
from crossrec.runs.callbacks import MidEpochCheckpoint
from crossrec.runs.train import is_main_process


@pytest.mark.parametrize("fitted", [True, False], ids=["fit.json written", "killed before that"])
def test_a_run_killed_after_early_stopping_does_not_train_on(small: list[str], fitted: bool) -> None:
    words = [*small, "trainer.max_epochs=40", "callbacks.early_stopping.patience=1", "optimizer.lr=0.05", "seed=1"]
    made = run(words)
    assert made.metrics["epochs"] < 40
    whole = (made.path / "metrics.json").read_bytes()
    (made.path / "metrics.json").unlink()
    if not fitted:
        (made.path / "fit.json").unlink()
    status = json.loads((made.path / "status.json").read_text())
    (made.path / "status.json").write_text(json.dumps({**status, "state": "running"}))
    assert (run(words).path / "metrics.json").read_bytes() == whole


def test_a_step_checkpoint_leaves_the_epochs_last_batch_to_the_epochs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[bool] = []
    monkeypatch.setattr(ModelCheckpoint, "on_train_batch_end", lambda *_: saved.append(True))
    for last in (True, False):
        MidEpochCheckpoint().on_train_batch_end(SimpleNamespace(is_last_batch=last), None, None, None, 0)
    assert saved == [True]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["strategy=target_only", "adaptation=[mmd]"], r"adaptation=\[mmd\] compares domains, but only 'b' trains"),
        (["objective=sampled_softmax", "negatives=popularity"], "objective.correct=true is for uniform negatives"),
        (
            ["objective=softmax", "negatives=popularity"],
            "negatives=popularity has no effect, because objective=softmax",
        ),
        (
            ["evaluation.candidate_sampling=popularity"],
            r"evaluation\.candidate_sampling=popularity has no effect under full",
        ),
        (["trainer.check_val_every_n_epoch=9"], "no epoch was validated in 2 epochs"),
    ],
)
def test_what_cannot_be_trained_is_told(small: list[str], words: list[str], message: str) -> None:
    with pytest.raises(CrossrecError, match=message):
        run([*small, *words])


@pytest.mark.parametrize("name", ["all", "macro", "a/b", ".a"])
def test_names_that_mean_other_things_are_refused_for_domains(name: str) -> None:
    rows = pl.DataFrame({"user": ["u"], "item": ["i"], "rating": [1.0], "time": [0]})
    with pytest.raises(CrossrecError, match="a domain cannot be called"):
        build_corpus([RawDomain(name, rows, pl.DataFrame({"item": ["i"]}))])


def test_the_main_process_is_found_under_every_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    one, two = {"trainer": {"devices": 1, "num_nodes": 1}}, {"trainer": {"devices": 2, "num_nodes": 1}}
    assert is_main_process(one) and is_main_process(two)
    monkeypatch.setenv("SLURM_PROCID", "1")
    assert is_main_process(one) and not is_main_process(two)
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert not is_main_process(two)
    monkeypatch.setenv("RANK", "2")  # torchrun: local rank 0 of a second node
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert not is_main_process(two)
