"""strategy=shared_private with parts that are two readings of a user's history."""

import csv
import math

import pytest
import torch
from running import run
from test_own_histories import READINGS, SEQUENCES, batch_of, built, weights

from crossrec.adaptation.pairs import distinct
from crossrec.errors import CrossrecError
from crossrec.strategies.base import Strategy
from crossrec.strategies.shared_private import SharedPrivate

PARTS = ["strategy=shared_private", "strategy.private=history", "adaptation=[mmd,difference]"]
BOTH = [*READINGS["both"], *PARTS]
EVENTS = [[0, 1, 0], [0, 0, 1, 1], [1, 0, 0], [1, 1, 0, 1]]


@pytest.fixture
def model(small: list[str]) -> Strategy:
    return built([*small, *BOTH]).eval()


@pytest.mark.parametrize("mode", ["gate", "sum", "concat"])
@pytest.mark.parametrize("more", [[], ["trainer.precision=bf16-mixed"]], ids=["fp32", "bf16"])
def test_weight_zero_is_merged_training_bit_for_bit(small: list[str], mode: str, more: list[str]) -> None:
    words = [*small, *READINGS["both"], f"user_encoder.mode={mode}", *more]
    merged = run(words)
    made = run([*words, *PARTS, "adaptation.mmd.weight=0", "adaptation.difference.weight=0"])
    assert merged.id != made.id and merged.metrics == made.metrics
    assert {key for key in weights(made) if not key.startswith("adaptation.")} == weights(merged).keys()
    assert all(torch.equal(value, weights(made)[key]) for key, value in weights(merged).items())
    with open(made.path / "log" / "metrics.csv", newline="") as file:
        logged = next(row for row in csv.DictReader(file) if row["train/loss"])
    assert all(float(logged[f"train/adaptation/{key}"]) > 0 for key in ("mmd/0-1", "difference/0", "difference/1"))


@torch.no_grad()
def test_parts_are_the_two_readings_and_a_user_without_own_events_is_left_out(model: Strategy) -> None:
    assert isinstance(model, SharedPrivate)
    batch = batch_of(model, [0, 1, 2, 3], EVENTS)
    users = distinct(model.recommendation_loss(batch)[1]["users"])
    assert torch.equal(users.vectors, users.layers["shared"])
    # of user 0 the domain-1 target is the first event there, of user 2 the last domain-0 target has one before
    assert set(zip(users.ids.tolist(), users.domains.tolist())) == {(0, 0), (1, 0), (1, 1), (2, 0), (3, 1)}
    places = {(0, 0): 1, (1, 0): 0, (1, 1): 2, (2, 0): 1, (3, 1): 2}
    for i, (user, d) in enumerate(zip(users.ids.tolist(), users.domains.tolist())):
        history = batch.history[user, : places[user, d] + 1]
        for layer, name, read in (
            ("shared", "mixed", history),
            ("private", "own", history[model.domain_of(history) == d]),
        ):
            encoder, items = model.user_encoder.encoders[name], model.item_encoder(read).unsqueeze(0)
            state = encoder.states(items, model.domain_of(read).unsqueeze(0), torch.ones(1, len(read)) > 0)[0, -1]
            assert torch.allclose(users.layers[layer][i], state, atol=1e-5)


@torch.no_grad()
def test_scored_is_what_merged_scores(small: list[str], model: Strategy) -> None:
    merged = built([*small, *READINGS["both"]]).eval()
    merged.load_state_dict(model.state_dict(), strict=False)  # but the terms' buffers
    batch = batch_of(model, [0, 1, 2, 3], EVENTS)
    nothing = batch.history[:, :0]
    for history in (batch.history, nothing, torch.full_like(batch.history, -1)):
        for d in (0, 1):
            vectors = [
                m.users_in(m.encode_users(batch.users, history, d), torch.full_like(batch.users, d))
                for m in (model, merged)
            ]
            assert torch.equal(*vectors) and vectors[0].any() == (history is batch.history)


def test_the_order_of_the_readings_does_not_matter(model: Strategy) -> None:
    batch = batch_of(model, [0, 1, 2, 3], EVENTS)
    users = model.recommendation_loss(batch)[1]["users"]
    encoders = model.user_encoder.encoders
    model.user_encoder.encoders = torch.nn.ModuleDict({name: encoders[name] for name in ("own", "mixed")})
    again = type(model.readings)(model.user_encoder)
    model.readings = again
    other = model.recommendation_loss(batch)[1]["users"]
    assert all(torch.equal(users.layers[name], other.layers[name]) for name in ("shared", "private"))


@pytest.mark.parametrize(("term", "moved"), [("mmd", {"mixed"}), ("difference", {"mixed", "own"})])
def test_a_terms_gradient_reaches_what_it_reads(model: Strategy, term: str, moved: set[str]) -> None:
    views = model.recommendation_loss(batch_of(model, [0, 1, 2, 3], EVENTS))[1]
    value, logged = model.adaptation[term](views)
    value.backward()
    assert logged
    got = {
        name
        for name, encoder in model.user_encoder.encoders.items()
        if any(p.grad is not None and p.grad.abs().max() > 1e-9 for p in encoder.parameters())
    }
    assert got == moved


def test_the_option_and_a_weight_have_an_effect(small: list[str]) -> None:
    words = [*small, *READINGS["both"], "strategy=shared_private", "adaptation=[mmd,difference]"]
    maps, histories = run(words), run([*words, "strategy.private=history"])
    assert any(key.startswith("towers.") for key in weights(maps))
    assert maps.metrics["test"] != histories.metrics["test"]
    last = []
    for weight in (1e-12, 50):
        longer = [
            f"adaptation.difference.weight={weight}",
            "adaptation.difference.kind=centred",
            "optimizer.lr=0.01",
            "trainer.max_epochs=5",
        ]
        made = run([*words, "strategy.private=history", *longer, "callbacks=none"])
        with open(made.path / "log" / "metrics.csv", newline="") as file:
            last.append(
                [float(row["train/adaptation/difference/0"]) for row in csv.DictReader(file) if row["train/loss"]]
            )
    assert last[1][-1] < 0.5 * last[0][-1]


@pytest.mark.parametrize("term", ["dann", "club", "joint_mmd", "contrastive"])
@pytest.mark.filterwarnings("ignore:adaptation.* compare")
def test_other_terms_run_too(small: list[str], term: str) -> None:
    made = run([*small, *BOTH, f"adaptation=[{term}]", "data.source.n_domains=3", "target=all", "trainer.max_epochs=1"])
    assert math.isfinite(made.metrics["best_score"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["strategy.private=rows"], "strategy.private='rows' must be true, false or history"),
        (["strategy.space=both"], "strategy.private=history parts users.* but strategy.space=both"),
        (["strategy.fusion=sum"], "strategy.fusion=sum needs strategy.private=true"),
        (["strategy.variational=true"], "strategy.variational=true needs strategy.private=true"),
        (["adaptation=[simse]"], "adaptation.simse reads 'input', but strategy.private=history has shared and private"),
        (["user_encoder=transformer", *SEQUENCES], "needs a user encoder of two readings.*user_encoder=mixed_and_own"),
        (["user_encoder.encoders.own.history=mixed"], "needs a user encoder of two readings"),
        (["user_encoder=id"], "needs a user encoder of two readings"),
    ],
)
def test_mistakes_are_told(small: list[str], words: list[str], told: str) -> None:
    with pytest.raises(CrossrecError, match=told):
        built([*small, *BOTH, *words])
