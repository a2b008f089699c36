import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from running import run

from crossrec.commands.train import composed
from crossrec.errors import CrossrecError
from crossrec.runs.store import RunFolder
from crossrec.studies.twins import Missing, Twin, candidates, find_twin, named, science_differences, twin_line

Make = Callable[..., RunFolder]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write what a finished run of some words leaves of itself, without training it."""

    def made(name: str, *words: str, state: str = "finished", fingerprint: str = "f" * 64) -> RunFolder:
        run = RunFolder(tmp_path / "runs" / name)
        run.begin(composed(list(words)), list(words), {"fingerprint": fingerprint, "path": ""})
        run.mark(state)
        (run.path / "metrics.json").write_text(json.dumps({"monitor": "ndcg@10", "test": {}}))
        return run

    return made


def found(made: RunFolder, domain: str = "b") -> Twin | Missing:
    return find_twin(made, domain, candidates(sorted(made.path.parent.iterdir())))


def test_the_twin_is_equal_in_all_that_counts(make: Make) -> None:
    merged = make("merged", "dim=8", "seed=1", "target=all")
    alone = ["strategy=target_only", "dim=8", "seed=1", "target=b", "logger=none", "trainer.accelerator=cpu"]
    make("other-target", *alone[:3], "target=a")
    make("mmd", *alone[1:], "strategy=mmd")
    assert isinstance(found(merged), Missing)
    twin = make("twin", *alone, "evaluation.query_batch_size=7")
    made = found(merged)
    assert isinstance(made, Twin) and made.run.id == twin.id and not made.differ
    assert isinstance(found(merged, "a"), Twin)
    # an adapted run has the same twin
    assert isinstance(found(make("adapted", "strategy=mmd", "adaptation=[mmd,coral]", "dim=8", "seed=1")), Twin)


@pytest.mark.parametrize(
    ("words", "options", "near"),
    [
        (["seed=1"], {}, "near is not the twin: seed is 1 in it, 0 in the run"),
        (["optimizer.lr=0.5", "dim=8"], {}, "dim is 8 in it, 64 in the run; optimizer.lr is 0.5 in it, 0.001 in the"),
        (["evaluation=sampled_99"], {}, "evaluation.protocol is sampled in it, full in the run"),
        (["split.min_train=2"], {}, "split.min_train is 2 in it, 1 in the run"),
        (["split.evaluated=[a]"], {}, 'split.evaluated is ["a"] in it, null in the run'),
        (["trainer.max_epochs=3"], {}, "near differs in its budget alone: trainer.max_epochs is 3 in it, "),
        ([], {"fingerprint": "0" * 64}, "data is 000000000000 in it, ffffffffffff in the run"),
        ([], {"state": "failed"}, "near would be the twin, but is failed, not finished"),
        (["seed=1", "dim=8", "batch_size=7", "optimizer.lr=0.5"], {}, None),  # too far to be named
    ],
)
def test_what_is_nearly_a_twin_is_refused_and_told(
    make: Make, words: list[str], options: dict[str, Any], near: str | None
) -> None:
    merged = make("merged", "target=b")
    make("near", "strategy=target_only", "target=b", *words, **options)
    made = found(merged)
    assert isinstance(made, Missing) and (near in made.near if near else made.near == "")


def test_a_schedule_over_another_budget_is_of_the_budget(make: Make) -> None:
    merged = make("merged", "target=b", "scheduler=cosine")
    other = make("near", "strategy=target_only", "target=b", "scheduler=cosine", "trainer.max_epochs=3")
    made = found(merged)
    assert isinstance(made, Missing) and made.other is not None and made.other.id == other.id
    named_one = find_twin(merged, "b", named([other.path]), given=True)
    assert isinstance(named_one, Twin) and set(named_one.budget) == {"scheduler.T_max", "trainer.max_epochs"}


def test_the_nearest_is_named(make: Make) -> None:
    merged = make("merged", "target=b")
    make("a-far", "strategy=target_only", "dim=8", "seed=1")
    make("b-near", "strategy=target_only", "dim=8")
    made = found(merged)
    assert isinstance(made, Missing) and made.near == "b-near is not the twin: dim is 8 in it, 64 in the run"


def test_keys_that_the_strategy_sets_may_differ(make: Make) -> None:
    factors = make("cmf", "strategy=cmf", "objective=bce")
    make("text", "strategy=target_only", "objective=bce", "item_encoder=text")
    made = found(factors)
    assert isinstance(made, Missing)  # a strategy that needs id towers has no twin with others
    make("twin", "strategy=target_only", "objective=bce")
    made = found(factors)
    assert isinstance(made, Twin) and made.run.id == "twin"
    assert made.differ == {"item_encoder.share_entities": ("true", "false")}
    make("a-plain", "strategy=target_only", "objective=bce")
    make("z-sharing", "strategy=target_only", "objective=bce", "item_encoder.share_entities=true")
    made = found(factors)
    assert isinstance(made, Twin) and made.run.id == "z-sharing" and not made.differ  # the nearest of several
    # what cmf sets is no excuse for another strategy
    merged = find_twin(make("merged", "objective=bce"), "b", candidates([RunFolder(made.run.path).path]))
    assert isinstance(merged, Missing) and "item_encoder.share_entities is true in it" in merged.near


def test_the_evaluated_domains_of_the_split_may_differ_where_both_have_the_domain(make: Make) -> None:
    make("twin", "strategy=target_only", "split=ratio", "split.evaluated=[b]")
    assert isinstance(found(make("merged", "split=ratio", "target=all")), Twin)
    assert isinstance(found(make("other", "split=ratio", "split.evaluated=[a]")), Missing)


def test_shares_of_domains_cannot_be_the_twins(make: Make) -> None:
    shares = "sampler.ratios={a: 0.5, b: 0.5}"
    merged = make("merged", "sampler=fixed_ratio", shares)
    made = found(merged)
    assert isinstance(made, Missing)
    assert made.line == ("crossrec train sampler=proportional strategy=target_only 'adaptation=[]' target=b")
    make("twin", "strategy=target_only")
    made = found(merged)
    assert isinstance(made, Twin) and all(key.startswith("sampler.") for key in made.differ)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["dim=8", "strategy=mmd", "adaptation.mmd.weight=0.5", "seed=3"], "crossrec train dim=8 seed=3"),
        (["+experiment=x", "adaptation=[mmd,coral]", "target=a", "split.evaluated=[a, b]"],
         "crossrec train +experiment=x 'split.evaluated=[a, b]'"),
        (["strategy=merged", "strategy.domain_weights={a: 2}", "~adaptation"], "crossrec train"),
    ],
)  # fmt: skip
def test_the_line_keeps_all_words_but_the_strategys(make: Make, words: list[str], line: str) -> None:
    made = make("run")
    (made.path / "overrides.json").write_text(json.dumps(words))
    told = twin_line(made, made.config, "b")
    assert told == f"{line} strategy=target_only 'adaptation=[]' target=b"


def test_the_line_names_what_the_strategy_had_overridden(make: Make) -> None:
    made = make("run", "objective=bce", "strategy=cmf", "user_encoder=id")
    words = twin_line(made, made.config, "b")
    assert words.startswith("crossrec train objective=bce user_encoder=id item_encoder=id strategy=target_only")


def test_the_line_makes_the_twin(small: list[str]) -> None:
    import shlex

    made = run([*small, "trainer.max_epochs=1", "strategy=mmd", "adaptation.mmd.weight=0.5", "target=b"])
    missing = found(made, "a")
    assert isinstance(missing, Missing)
    program, command, *words = shlex.split(missing.line)
    assert (program, command) == ("crossrec", "train")
    twin = run(words)
    again = found(made, "a")
    assert isinstance(again, Twin) and again.run.path == twin.path


def test_named_runs_must_be_finished_runs_of_target_only(make: Make) -> None:
    merged, open_ = make("merged"), make("open", "strategy=target_only", state="failed")
    with pytest.raises(CrossrecError, match=r"--against merged is a run of .*Merged: name runs of strategy=target_onl"):
        named([merged.path])
    with pytest.raises(CrossrecError, match="--against open is failed"):
        named([open_.path])
    assert [c.run.id for c in named([make("twin", "strategy=target_only").path])] == ["twin"]


def test_differences_count_as_in_the_run_id() -> None:
    a = composed(["item_encoder=text", "logger=csv"])
    b = composed(["item_encoder=text", "logger=none", "item_encoder.batch_size=3", "trainer.devices=2", "paths.runs=x"])
    assert science_differences(a, b) == {}
    b["optimizer"]["lr"] = 3
    assert science_differences(a, b) == {"optimizer.lr": ("0.001", "3")}


def test_an_option_that_came_later_tells_no_older_run_apart() -> None:
    config = composed(["user_encoder=transformer"])
    node = config["user_encoder"]
    older = {**config, "user_encoder": {k: v for k, v in node.items() if k != "position_embedding"}}
    assert science_differences(config, older) == {}
    other = {**config, "user_encoder": {**node, "position_embedding": False}}
    assert science_differences(other, older) == {"user_encoder.position_embedding": ("false", "true")}
