"""Contrastive pretraining: which domains, what it is at weight 0, what the second view and its contrast are."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from running import run

from crossrec.commands.train import composed
from crossrec.data.batches import PAD, SequenceBatch
from crossrec.errors import CrossrecError
from crossrec.runs.assemble import Assembly, assemble
from crossrec.runs.corpus import prepare_corpus
from crossrec.runs.store import RunFolder
from crossrec.strategies.pretraining import Pretraining


@pytest.fixture
def words(small: list[str], tiny_model: Path) -> list[str]:
    text = [f"item_encoder.model={tiny_model}", "item_encoder.whitening_dim=4", "item_encoder.max_length=16"]
    return [
        *small, "data.source.n_domains=3", "data.source.n_users=40", "data.source.n_items=30", "batch_size=16",
        "data.source.interactions_per_user=6", "history_length=5", "item_encoder=text", *text,
        "user_encoder=transformer", "objective=in_batch_softmax",
    ]  # fmt: skip


def built(words: list[str]) -> tuple[Assembly, Pretraining, SequenceBatch]:
    config = composed([*words, "strategy=pretraining"])
    parts = assemble(config, prepare_corpus(config))
    batch = next(iter(parts.datamodule.train_dataloader()))
    assert isinstance(parts.model, Pretraining) and isinstance(batch, SequenceBatch)
    return parts, parts.model, batch


def after(made: RunFolder) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(made.last, weights_only=True)["state_dict"]
    return state


def logged(made: RunFolder, name: str) -> list[dict[str, str]]:
    with open(made.path / "log" / "metrics.csv", newline="") as file:
        return [row for row in csv.DictReader(file) if row[name]]


def test_weight_zero_is_merged_training_with_that_objective_bit_for_bit(words: list[str]) -> None:
    merged = run([*words, "strategy=merged", "target=all"])
    made = run([*words, "strategy=pretraining", "target=all", "strategy.weight=0"])
    assert made.id != merged.id and made.metrics == merged.metrics
    assert (made.path / "log/metrics.csv").read_text() == (merged.path / "log/metrics.csv").read_text()
    assert all(torch.equal(v, after(made)[n]) for n, v in after(merged).items())


def test_it_trains_selects_and_tests_all_but_the_target(words: list[str]) -> None:
    made = run([*words, "strategy=pretraining", "target=b"])
    valid, test = (made.metrics[stage] for stage in ("valid", "test"))
    assert {k.split("/")[1] for k in test} == {"a", "c", "macro"} == {k.split("/")[1] for k in valid}
    mean = np.mean([valid[f"valid/{d}/ndcg@10"] for d in "ac"])
    scores = logged(made, "valid/monitor")
    best = max(scores, key=lambda row: float(row["valid/monitor"]))
    assert float(best["valid/monitor"]) == pytest.approx(mean, abs=1e-6) == pytest.approx(made.metrics["best_score"])
    parts, _, _ = built([*words, "target=b"])
    for batch in parts.datamodule.train_dataloader():
        assert 1 not in batch.domains and not ((batch.history >= 30) & (batch.history < 60)).any()
    with pytest.raises(CrossrecError, match=r"trains on all domains but the target, and a is the only one"):
        built([*words, "data.source.n_domains=1", "target=a"])


def test_both_losses_are_logged_and_every_option_has_an_effect(words: list[str]) -> None:
    line = [*words, "strategy=pretraining", "target=all", "trainer.max_epochs=1", "strategy.weight=0.5"]
    made = run(line)
    (row,) = logged(made, "train/loss")
    item, sequence = float(row["train/sequence_item"]), float(row["train/sequence_sequence"])
    assert float(row["train/loss"]) == pytest.approx(item + 0.5 * sequence, rel=1e-5) and sequence > 0
    changes = ("weight=0.1", "item_drop=0.5", "temperature=0.5")
    others = [run([*line, f"strategy.{change}"]) for change in changes]
    weights = [after(m)["user_encoder.position"].double().sum().item() for m in (made, *others)]
    assert len(set(weights)) == 4 == len({m.id for m in (made, *others)})


def test_the_second_view_drops_events_but_the_first_and_keeps_their_order(words: list[str]) -> None:
    _, model, _ = built(words)
    torch.manual_seed(0)
    history = torch.arange(4000).view(400, 10)
    history[:200, 6:] = PAD
    thin = model.thinned(history)
    assert torch.equal(thin[:, 0], history[:, 0])
    for row, whole in zip(thin.tolist(), history.tolist()):
        left = [i for i in row if i != PAD]
        assert left == sorted(left) and set(left) <= set(whole) and row[: len(left)] == left
    dropped = 1 - ((thin != PAD).sum() - 400) / ((history != PAD).sum() - 400)
    assert dropped.item() == pytest.approx(0.2, abs=0.03)
    model.item_drop = 0.0
    assert torch.equal(model.thinned(history), history)


def test_the_contrast_of_views_is_the_formula(words: list[str]) -> None:
    _, model, batch = built([*words, "user_encoder.dropout=0", "strategy.temperature=0.5"])
    users = batch.users.clone()
    users[1] = users[0]  # two windows of one user
    targets = batch.targets.clone()
    ends = (batch.real.cumsum(1) * batch.real).argmax(1)
    targets[3, ends[3]] = targets[2, ends[2]]  # and two with one last target
    batch = SequenceBatch(users, batch.history, targets, batch.negatives, batch.domains)
    with torch.no_grad():
        torch.manual_seed(3)
        got = model.sequence_loss(batch, model.states_of(batch)).item()
        torch.manual_seed(3)
        history = model.thinned(batch.history)
        first = [model.encode_users(users[i : i + 1], batch.history[i : i + 1], 0)[0] for i in range(len(users))]
        second = [model.encode_users(users[i : i + 1], history[i : i + 1], 0)[0] for i in range(len(users))]
    a, b = (np.stack([x.double().numpy() / np.linalg.norm(x.numpy()) for x in view]) for view in (first, second))
    c, ids = a @ b.T / 0.5, [int(model.entities[t]) for t in targets[torch.arange(len(users)), ends]]
    losses, masked = [], 0
    for i in range(len(users)):
        others = [j for j in range(len(users)) if users[j] != users[i] and ids[j] != ids[i]]
        masked += len(users) - 1 - len(others)
        losses.append(np.log(np.exp(c[i, [i, *others]]).sum()) - c[i, i])
    assert masked >= 4 and got == pytest.approx(np.mean(losses), rel=1e-4)


def test_windows_that_have_no_other_give_a_zero_without_gradient(words: list[str]) -> None:
    _, model, batch = built(words)
    one = SequenceBatch(*(getattr(batch, n)[:1] for n in ("users", "history", "targets", "negatives", "domains")))
    loss = model.sequence_loss(one, model.states_of(one))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-7)
    assert all(p.grad is None or p.grad.abs().max() < 1e-6 for p in model.parameters())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["strategy.weight=-1"], "strategy.weight=-1 must be at least 0"),
        (["strategy.item_drop=1"], "strategy.item_drop=1 must be from 0 to below 1"),
        (["strategy.temperature=0"], "strategy.temperature=0 must be more than 0"),
        (["user_encoder=id"], r"contrasts histories, but this user_encoder looks users up by id.*strategy\.weight=0"),
    ],
)
def test_impossible_options_are_refused(words: list[str], more: list[str], message: str) -> None:
    with pytest.raises(CrossrecError, match=message):
        built([*words, *more])
