from pathlib import Path

import pytest

from crossrec.commands.train import composed
from crossrec.errors import CrossrecError
from crossrec.runs.corpus import prepare_corpus
from crossrec.runs.identity import run_id, scientific
from crossrec.studies.tuned import experiment, write_experiment


def same_run(words: list[str], folder: Path, config_dirs: list[Path] | None = None) -> None:
    config = composed(words, config_dirs)
    identity = run_id(config, prepare_corpus(config).fingerprint)
    write_experiment(folder, "best", words, ["one"], identity, config_dirs or [])
    again = composed(["experiment=best"], [folder, *(config_dirs or [])])
    assert {k: v for k, v in again.items() if k != "paths"} == {k: v for k, v in config.items() if k != "paths"}


@pytest.mark.parametrize(
    "words",
    [
        ["strategy=merged", "strategy=mmd", "adaptation=[mmd]", "adaptation.mmd.weight=0.3", "optimizer.lr=1e-05"],
        ["experiment=movielens", "data=synthetic", "split=leave_one_out", "strategy=mmd", "dim=9", "seed=5"],
        ["experiment=food_kitchen", "data=synthetic", "user_encoder=id", "evaluation.valid_queries=null"],
        ["scheduler=cosine", "target=all", "+trainer.max_steps=7", "++trainer.min_epochs=1", "item_encoder=id"],
        ["split=ratio", 'split.evaluated=["${target}"]', "dim=4", "dim=8", "callbacks=none"],
    ],
)
def test_an_experiment_composes_to_the_config_of_its_words(tmp_path: Path, small: list[str], words: list[str]) -> None:
    same_run([*small, *words], tmp_path / "conf_tuned")


def test_an_experiment_is_written_as_deltas() -> None:
    words = ["experiment=movielens", "strategy=mmd", "adaptation=[mmd]", "adaptation.mmd.weight=0.5", "strategy=cmf"]
    assert experiment(words) == {
        "defaults": ["movielens", "_self_", {"override /strategy": "cmf"}, {"override /adaptation": ["mmd"]}],
        "adaptation": {"mmd": {"weight": 0.5}},
    }
    assert scientific(["paths.runs=x", "dim=4", "logger=none", "hydra/launcher=joblib", "trainer.devices=2"]) == [
        "dim=4"
    ]


@pytest.mark.parametrize("word", ["~dim", "hydra.verbose=true"])
def test_what_an_experiment_cannot_hold_is_told(word: str) -> None:
    with pytest.raises(CrossrecError, match="cannot be written into an experiment"):
        experiment([word])


def test_an_experiment_that_would_train_another_run_is_not_written(tmp_path: Path, small: list[str]) -> None:
    with pytest.raises(CrossrecError, match=r"would train run synthetic-merged-.*, not other"):
        write_experiment(tmp_path / "out", "best", small, [], "other")
    assert [p.name for p in (tmp_path / "out").rglob("*.yaml")] == []


def test_a_choice_of_a_folder_of_ones_own_is_a_choice(tmp_path: Path, small: list[str]) -> None:
    (tmp_path / "own" / "optimizer").mkdir(parents=True)
    (tmp_path / "own" / "optimizer" / "fast.yaml").write_text("_target_: torch.optim.Adam\n_partial_: true\nlr: 0.1\n")
    same_run([*small, "optimizer=fast", "optimizer.lr=0.2"], tmp_path / "out", [tmp_path / "own"])
