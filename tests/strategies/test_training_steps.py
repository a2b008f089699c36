"""Real training steps of the strategies with terms: what critics learn and give back, and batches without a gap."""

import csv
from collections.abc import Iterator
from dataclasses import fields, replace

import pytest
import torch
from running import run
from test_strategy_contract import FACTORS
from torch.nn import functional as F

from crossrec.adaptation.adversarial import AdversarialAdaptation
from crossrec.adaptation.base import PairwiseAdaptation
from crossrec.adaptation.dann import DANN
from crossrec.adaptation.pairs import distinct
from crossrec.commands.train import composed
from crossrec.data.batches import TrainingBatch
from crossrec.runs.assemble import Assembly, assemble, load_run
from crossrec.runs.corpus import prepare_corpus

ENCODERS = {
    "id": ["objective=bpr"],
    "transformer": ["user_encoder=transformer", "user_encoder.dropout=0", "objective=bce", "history_length=6"],
}
CRITICS = {
    "dann": ["adaptation=[dann]"],
    "alternating": ["adaptation=[dann]", "adaptation.dann.mode=alternating"],
    "cdan": ["adaptation=[cdan]"],
    "wasserstein": ["adaptation=[wasserstein_critic]"],
}
STRATEGIES = {s: [f"strategy={s}"] for s in FACTORS["strategy"]} | {
    f"adversarial {kind}": ["strategy=adversarial", *words] for kind, words in CRITICS.items() if kind != "dann"
}
encoders = pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS.keys())


def built(words: list[str]) -> Assembly:
    config = composed(words)
    parts = assemble(config, prepare_corpus(config))
    parts.model.train()
    return parts


def batches(parts: Assembly) -> Iterator[TrainingBatch]:
    return iter(parts.datamodule.train_dataloader())


def taken(batch: TrainingBatch, rows: torch.Tensor) -> TrainingBatch:
    """The rows of a batch, each with negatives of its own."""
    return replace(batch, **{f.name: getattr(batch, f.name)[rows] for f in fields(batch)})


def gradients(parts: Assembly, batch: TrainingBatch) -> dict[str, torch.Tensor | None]:
    parts.model.zero_grad()
    parts.model.training_step(batch, 0).backward()
    return {name: None if p.grad is None else p.grad.clone() for name, p in parts.model.named_parameters()}


@encoders
@pytest.mark.parametrize(("reversal", "weight"), [(1.0, 1.0), (0.5, 3.0), (0.0, 2.0)])
def test_towers_get_the_critics_gradient_reversed(
    small: list[str], encoder: list[str], reversal: float, weight: float
) -> None:
    options = [f"adaptation.dann.weight={weight}", f"adaptation.dann.reversal={reversal}", "dim=8"]
    parts = built([*small, *encoder, "strategy=adversarial", *options, "adaptation.dann.reversal_schedule=constant"])
    model, batch = parts.model, next(batches(parts))
    (critic,) = model.adaptation.values()
    assert isinstance(critic, DANN)
    got = gradients(parts, batch)
    critic.weight = 0.0
    without = gradients(parts, batch)

    users = distinct(model.recommendation_loss(batch)[1]["users"])
    losses = F.cross_entropy(critic.critic(users.vectors), users.domains, reduction="none")
    loss = torch.stack([losses[users.domains == d].mean() for d in (0, 1)]).mean()
    model.zero_grad()
    loss.backward()
    sizes = []
    for name, p in model.named_parameters():
        if p.grad is None:  # an item's vector that only scores read
            assert torch.equal(got[name], without[name])
            continue
        factor = weight if name.startswith("adaptation.dann.critic") else -reversal * weight
        assert torch.allclose(got[name] - without[name], factor * p.grad, rtol=1e-3, atol=1e-6 * weight)
        sizes.append((name.split(".")[0], p.grad.abs().max().item()))
    assert min(max(s for n, s in sizes if n == of) for of in ("adaptation", "user_encoder")) > 1e-4


@pytest.mark.parametrize("strategy", STRATEGIES.values(), ids=STRATEGIES.keys())
@encoders
@pytest.mark.parametrize("most", [None, 1], ids=["one domain", "one row"])
def test_batches_with_nothing_to_compare(
    small: list[str], encoder: list[str], strategy: list[str], most: int | None
) -> None:
    parts = built([*small, *encoder, *strategy])
    model, batch = parts.model, next(batches(parts))
    of_first = (batch.domains.reshape(len(batch.users), -1) <= 0).all(1)  # a window's targets, and where it has none
    rows = torch.nonzero(of_first)[:most, 0]
    assert len(rows) > 10 or len(rows) == most
    before = {name: p.detach().clone() for name, p in model.adaptation.named_parameters()}
    found = gradients(parts, taken(batch, rows))
    for name, p in model.named_parameters():
        assert not p.requires_grad or (found[name] is not None and torch.isfinite(found[name]).all()), name
    logged = model._means.take()
    assert all(torch.isfinite(torch.as_tensor(v)) for v in logged.values())
    for name, term in model.adaptation.items():
        if isinstance(term, PairwiseAdaptation | AdversarialAdaptation):  # of two domains' rows
            assert not term.compared and not any(key.startswith(f"adaptation/{name}/") for key in logged)
    for name, p in model.adaptation.named_parameters():
        gradient = found[f"adaptation.{name}"]
        assert torch.equal(p, before[name]) and (gradient is None or not gradient.any())


def trained(words: list[str], critic: list[str]) -> tuple[Assembly, AdversarialAdaptation, list[dict[str, str]]]:
    made = run([*words, "strategy=adversarial", *critic, "callbacks=none", "data.source.overlap=0"])
    with open(made.path / "log" / "metrics.csv", newline="") as file:
        log = [row for row in csv.DictReader(file) if row["train/loss"]]
    parts = load_run(made.path)[1]
    parts.model.load_state_dict(torch.load(made.last, weights_only=True)["state_dict"])
    (term,) = parts.model.adaptation.values()
    return parts, term, log


@pytest.mark.parametrize("critic", CRITICS.values(), ids=CRITICS.keys())
def test_a_trained_critic_tells_rows_apart(small: list[str], critic: list[str]) -> None:
    parts, term, _ = trained([*small, "trainer.max_epochs=3", "optimizer.lr=0.01"], critic)
    with torch.no_grad():
        views = parts.model.recommendation_loss(next(batches(parts)))[1]
        outputs = term.critic(term.features(distinct(views["users"])))
    assert torch.isfinite(outputs).all() and outputs.std(0).min() > 1e-3
    assert len(outputs.unique(dim=0)) == len(outputs)


@pytest.mark.parametrize("reversal", [0, 1])
def test_an_unreversed_critic_learns_and_a_reversed_one_is_kept_from_it(small: list[str], reversal: int) -> None:
    words = [*small, "trainer.max_epochs=12", "optimizer.lr=0.01", f"adaptation.dann.reversal={reversal}"]
    weights = ["adaptation.dann.weight=10", "adaptation.dann.reversal_schedule=constant"]
    _, _, log = trained([*words, *weights], CRITICS["dann"])
    accuracies = [float(row["train/adaptation/dann/accuracy"]) for row in log]
    assert (accuracies[-1] > 0.9) == (reversal == 0) and min(accuracies) < 0.7
