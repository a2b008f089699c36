"""What a strategy refuses of its adaptation terms, and what it warns of."""

import math

import pytest
import torch
from running import run

from crossrec.errors import CrossrecError
from crossrec.runs.assemble import load_run
from crossrec.strategies.finite import FiniteValues

SEQUENCES = ["user_encoder=mean", "objective=sampled_softmax", "history_length=8"]
LEARNT = ["mapping", "cluster_entropy", "club"]


@pytest.mark.parametrize("strategy", ["merged", "mmd", "shared_private"])
@pytest.mark.parametrize("term", ["contrastive", "mapping", "barlow_twins", "hsic"])
def test_a_users_one_vector_is_not_compared_with_itself(small: list[str], strategy: str, term: str) -> None:
    words = [*small, f"strategy={strategy}", f"adaptation=[{term}]", "data.source.overlap=1"]
    with pytest.raises(CrossrecError, match=rf"adaptation\.{term} has no two vectors to compare: a user looked up"):
        run(words)
    made = run([*words, *SEQUENCES, "trainer.max_epochs=1"])  # whose histories tell the domains apart
    assert math.isfinite(made.metrics["best_score"])


def test_items_that_share_a_vector_are_not_compared_with_themselves(small: list[str]) -> None:
    words = ["strategy=cmf", "adaptation=[mapping]", "adaptation.mapping.space=items"]
    with pytest.raises(CrossrecError, match=r"adaptation\.mapping has no two vectors to compare: with item_encoder"):
        run([*small, *words])


@pytest.mark.parametrize("term", LEARNT)
def test_what_learns_has_a_copy_of_users_and_one_of_items(small: list[str], term: str) -> None:
    words = [*small, *SEQUENCES, "strategy=shared_private", "strategy.space=both", f"adaptation=[{term}]"]
    made = run([*words, f"adaptation.{term}.space=both", "trainer.max_epochs=1", "callbacks=none"])
    adaptation = load_run(made.path)[1].model.adaptation
    assert [(key, t.space, t.name) for key, t in adaptation.items()] == [
        (f"{term}/{space}", space, term) for space in ("users", "items")
    ]
    users, items = (dict(part.named_parameters()) for part in adaptation.values())
    assert users and not any(torch.equal(p, items[name]) for name, p in users.items())  # both moved, each its own way
    logged = (made.path / "log" / "metrics.csv").read_text().splitlines()[0]
    compared = ("users",) if term == "mapping" else ("users", "items")  # no item is in two domains
    assert all(f"train/adaptation/{term}/{space}/" in logged for space in compared)


def test_a_term_that_is_not_finite_is_named_before_anything_is_ranked(
    small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crossrec.adaptation.coral.Coral.distance", lambda self, a, b: (a.mean() - b.mean()) / 0.0)
    with pytest.raises(
        CrossrecError, match=r"adaptation\.coral gave a value that is NaN or infinite in epoch 0, on us"
    ):
        run([*small, "strategy=mmd", "adaptation=[mmd,coral]"])
    assert run([*small, "strategy=mmd", "adaptation=[mmd,coral]", "adaptation.coral.weight=0"]).metrics


def test_a_recommendation_loss_that_breaks_first_is_what_is_told(small: list[str]) -> None:
    with pytest.raises(CrossrecError, match=r"the recommendation loss is NaN or infinite in epoch 0: lower optimi"):
        run([*small, "strategy=mmd", "optimizer.lr=1e18"])


def test_of_values_that_are_not_finite_the_first_is_named() -> None:
    values = FiniteValues()
    assert values.first_broken() is None
    one, inf, nan = (torch.tensor(value) for value in (1.0, math.inf, math.nan))
    for step in ({"": one, "a": one, "b": one}, {"": one, "a": one, "b": inf}, {"": nan, "a": nan, "b": one}):
        values.add(step)
    assert values.first_broken() == "b"
    together = FiniteValues()
    together.add({"": nan, "a": nan})
    assert together.first_broken() == ""


@pytest.mark.parametrize("weight", [".nan", "nan", "inf", "-0.1"])
def test_a_weight_is_a_finite_number(small: list[str], weight: str) -> None:
    with pytest.raises(CrossrecError, match=r"adaptation\.mmd\.weight=.* must be a (number|finite number, 0 or more)"):
        run([*small, "strategy=mmd", f"adaptation.mmd.weight={weight}"])


def test_a_term_has_no_name_but_its_key(small: list[str]) -> None:
    with pytest.raises(CrossrecError, match=r"name=other has no effect: .*MMD gets its name from crossrec"):
        run([*small, "strategy=mmd", "+adaptation.mmd.name=other"])


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["strategy=mmd", "adaptation.mmd.schedule=linear"], "adaptation.mmd.schedule"),
        (["strategy=adversarial"], "adaptation.dann.reversal_schedule"),
    ],
)
def test_a_ramp_needs_an_end_of_training(small: list[str], words: list[str], option: str) -> None:
    endless = [*small, *words, "trainer.max_epochs=-1", "callbacks.early_stopping.patience=1"]
    with pytest.raises(CrossrecError, match=rf"{option} changes with .* training has no end: set trainer\.max_epochs"):
        run(endless)
    constant = [f"{option}=constant", "optimizer.lr=1e-9"]  # nothing improves, so it is stopped early
    assert run([*endless, *constant]).finished


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (
            ["adaptation.mmd.rows=overlap", "data.source.overlap=0"],
            r"no id is in two domains: set .*rows=all",
        ),
        (["adaptation.mmd.rows=non_overlap", "data.source.overlap=1"], "no id is in one domain alone"),
        (
            ["adaptation.mmd.rows=non_overlap", "data.source.overlap=0.95", "batch_size=4"],
            "rows=non_overlap, ids in one domain",
        ),
    ],
)
def test_what_compared_nothing_is_told_with_its_cause(small: list[str], words: list[str], why: str) -> None:
    with pytest.warns(UserWarning, match=rf"adaptation\.mmd has compared nothing .*{why}"):
        run([*small, "strategy=mmd", "trainer.max_epochs=1", *words])
    with pytest.warns(
        UserWarning, match=r"adaptation\.mapping has compared nothing .*because no id is in two domains: choose .*mmd"
    ):
        run([
            *small, *SEQUENCES, "strategy=mmd", "adaptation=[mapping]", "trainer.max_epochs=1", "data.source.overlap=0",
        ])  # fmt: skip
