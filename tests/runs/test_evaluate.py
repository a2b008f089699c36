import json
from pathlib import Path
from typing import Any

import pytest
import torch
from running import run

from crossrec.cli import main
from crossrec.errors import CrossrecError
from crossrec.evaluation.protocols import candidate_hash, load_candidates
from crossrec.runs.assemble import load_run
from crossrec.runs.store import RunFolder


def evaluate(made: RunFolder, *overrides: str) -> tuple[Path, dict[str, Any]]:
    """Run the command; the file it wrote and what is in it."""
    before = set((made.path / "evaluations").glob("*.json"))
    main(["evaluate", str(made.path), *overrides])
    (path,) = set((made.path / "evaluations").glob("*.json")) - before
    return path, json.loads(path.read_text())


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["user_encoder=transformer", "objective=sampled_softmax", "history_length=8", "target=all"],
        ["strategy=popularity"],
        ["evaluation=sampled_99", "evaluation.n_candidates=20"],
        ["trainer.precision=bf16-mixed"],
    ],
    ids=["id", "transformer", "popularity", "sampled", "bf16"],
)
def test_without_overrides_it_repeats_the_runs_own_test_metrics(small: list[str], more: list[str]) -> None:
    made = run([*small, *more])
    metrics = (made.path / "metrics.json").read_bytes()
    _, record = evaluate(made)
    assert record["test"] == made.metrics["test"]
    assert record["evaluation"] == made.config["evaluation"]
    assert record.get("candidates") == made.metrics.get("candidates")
    assert (made.path / "metrics.json").read_bytes() == metrics


def test_a_sampled_protocol_keeps_its_candidates_and_draws_the_same_twice(small: list[str]) -> None:
    made = run([*small, "data.source.n_items=150"])
    path, record = evaluate(made, "evaluation=sampled_99")
    candidates = load_candidates(path.with_suffix(".safetensors"))
    assert set(candidates) == {"a/users", "a/candidates", "b/users", "b/candidates"}
    assert candidates["b/candidates"].shape == (120, 99)
    assert record["candidates"] == candidate_hash(candidates)
    assert record["evaluation"]["protocol"] == "sampled"
    assert record["test"]["test/b/hit@10"] > made.metrics["test"]["test/b/hit@10"]
    path.unlink()
    again, repeated = evaluate(made, "evaluation=sampled_99")
    assert again == path and repeated == record


def test_queries_with_fewer_candidates_than_asked_are_in_the_record(small: list[str]) -> None:
    made = run([*small, "trainer.max_epochs=1"])
    with pytest.warns(UserWarning, match=r"of 120 test queries of domain 'b' are ranked against fewer than"):
        _, record = evaluate(made, "evaluation=sampled_99", "evaluation.n_candidates=53")
    short = record["short_of_candidates"]["test/b"]
    drawn = load_candidates(next((made.path / "evaluations").glob("*.safetensors")))["b/candidates"]
    assert short == int((drawn < 0).any(1).sum()) > 0
    assert "short_of_candidates" not in evaluate(made, "evaluation=sampled_99", "evaluation.n_candidates=5")[1]


def test_one_key_changes_and_the_others_stay_the_runs_own(small: list[str]) -> None:
    made = run([*small, "evaluation.ks=[3,7]", "evaluation.diversity=false", "evaluation.monitor=ndcg@7"])
    _, record = evaluate(made, "evaluation.ks=[2]")
    assert record["evaluation"] == {**made.config["evaluation"], "ks": [2]}
    assert record["test"]["test/b/auc"] == made.metrics["test"]["test/b/auc"]
    assert "test/b/ndcg@2" in record["test"] and "test/b/ndcg@7" not in record["test"]
    assert not any("diversity" in key for key in record["test"])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("seed=1", "'seed=1' does not belong to the evaluation group; train another run for that"),
        ("evaluations=full", "'evaluations=full' does not belong to the evaluation group"),
        ("evaluation=sampled_98", "no option 'sampled_98' for evaluation; did you mean sampled_99"),
        ("evaluation", "'evaluation' is not an override: write key=value, as in evaluation=sampled_99"),
        ("evaluation.monitor=mrr@5", "evaluation.monitor=mrr@5 has no effect, because a run's epoch was selected when"),
        ("evaluation.valid_queries=5", "evaluation.valid_queries=5 has no effect"),
        ("evaluation.ks=[0]", "evaluation.ks=[0] must be a list of lengths from 1 on"),
        ("evaluation.kss=[1]", "no config key 'evaluation.kss'; did you mean evaluation.ks"),
    ],
)
def test_an_override_of_anything_else_is_refused(
    small: list[str], word: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = run([*small, "trainer.max_epochs=1"])
    with pytest.raises(SystemExit) as end:
        main(["evaluate", str(made.path), word])
    assert end.value.code == 1
    assert message in capsys.readouterr().err
    assert not (made.path / "evaluations").exists()


@pytest.mark.parametrize("command", ["evaluate", "recommend"])
def test_an_unfinished_run_is_refused(small: list[str], command: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = run([*small, "trainer.max_epochs=1"])
    made.mark("failed")
    with pytest.raises(SystemExit) as end:
        main([command, str(made.path)])
    assert end.value.code == 1
    assert f"run {made.id} is failed: train it to its end" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["evaluate", "recommend", "gap"])
def test_a_checkpoint_that_is_not_whole_is_told(
    small: list[str], command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = run([*small, "trainer.max_epochs=1"])
    made.best.write_bytes(made.best.read_bytes()[:-200])
    with pytest.raises(SystemExit) as end:
        main([command, str(made.path)])
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert f"{made.best} is no whole checkpoint (" in said and "this line makes it again: crossrec train" in said
    made.best.unlink()
    with pytest.raises(CrossrecError, match="has lost"):
        load_run(made.path)
    torch.save({"weights": {}}, made.best)
    with pytest.raises(CrossrecError, match=r"is no whole checkpoint \(it has no state_dict\)"):
        load_run(made.path)
