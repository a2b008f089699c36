import math
from itertools import product
from pathlib import Path

import polars as pl
import pytest
from running import run
from test_strategy_contract import FACTORS

from crossrec.config import options
from crossrec.runs.store import RunFolder

OBJECTIVES = sorted(options("objective"))
USERS = sorted(set(options("user_encoder")) - {"id_and_text"})  # that one is of bert_concat's width
FREE = ("popularity", "text_cosine")
OWN = {"bert_concat", "zero_shot"}  # of other towers or domains than the rest: they have tests of their own
TRAINED = sorted(set(options("strategy")) - set(FREE) - OWN)


def beside(strategies: list[str]) -> list[tuple[str, str, str]]:
    """Runs that have each strategy beside every user encoder and every objective, in as few as that takes.

    Encoders beside objectives are proven by :mod:`test_strategy_contract`; a strategy takes other pairs than the last.
    """
    return [
        (strategy, USERS[(run + shift) % len(USERS)], OBJECTIVES[run % len(OBJECTIVES)])
        for shift, strategy in enumerate(strategies)
        for run in range(max(len(USERS), len(OBJECTIVES)))
    ]


WITHOUT_TERMS = [s for s in TRAINED if s not in FACTORS["strategy"]]
"""The others are beside all of this, and more, in :mod:`test_strategy_contract`."""


@pytest.fixture
def tiny(small: list[str]) -> list[str]:
    """One epoch of a corpus that is smaller still."""
    return [
        *small, "data.source.n_users=40", "data.source.n_items=30", "data.source.interactions_per_user=6",
        "trainer.max_epochs=1", "logger=none", "history_length=6", "objective.temperature=1.0",
    ]  # fmt: skip


def check(made: RunFolder, domains: set[str]) -> None:
    assert made.finished
    test = {k: v for k, v in made.metrics["test"].items() if k.count("/") == 2}
    assert {k.split("/")[1] for k in test} == domains | {"macro"}
    assert all(math.isfinite(v) for v in test.values())
    assert test["test/b/n_queries"] == pl.read_parquet(made.path / "per_user" / "b.parquet").height == 40


def test_every_strategy_is_beside_every_user_encoder_and_objective() -> None:
    runs = beside(WITHOUT_TERMS)
    assert {"cmf", "merged", "target_only"} <= set(WITHOUT_TERMS)
    assert {(s, u) for s, u, _ in runs} == set(product(WITHOUT_TERMS, USERS))
    assert {(s, o) for s, _, o in runs} == set(product(WITHOUT_TERMS, OBJECTIVES))


@pytest.mark.parametrize(("strategy", "users", "objective"), beside(WITHOUT_TERMS))
def test_trains_with_every_user_encoder_and_objective(
    tiny: list[str], strategy: str, users: str, objective: str
) -> None:
    words = [w for w in tiny if objective.endswith("softmax") or not w.startswith("objective.temperature")]
    if strategy == "pretraining":  # it leaves the target out, and contrasts what users did
        words += ["target=all", "item_encoder=id", *(["strategy.weight=0"] if users.startswith("id") else [])]
    made = run([*words, f"strategy={strategy}", f"user_encoder={users}", f"objective={objective}"])
    check(made, {"b"} if strategy in ("target_only", "zero_shot") else {"a", "b"})
    assert made.metrics["epochs"] == 1 and math.isfinite(made.metrics["best_score"])


@pytest.mark.parametrize("users", USERS)
@pytest.mark.parametrize("strategy", FREE)
def test_training_free_strategies_rank_with_every_user_encoder(
    tiny: list[str], tiny_model: Path, strategy: str, users: str
) -> None:
    words = [w for w in tiny if not w.startswith("objective.temperature")]
    if strategy == "text_cosine":
        words += [f"item_encoder.model={tiny_model}", "item_encoder.whitening_dim=4", "item_encoder.max_length=16"]
    made = run([*words, f"strategy={strategy}", f"user_encoder={users}"])
    check(made, {"a", "b"})
    assert made.metrics["best_epoch"] is None and not made.best.exists()
