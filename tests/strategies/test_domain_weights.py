"""Weights of the domains' rows: constant, or a line over training."""

import itertools

import pytest
import torch
from running import run

from crossrec.commands.train import composed
from crossrec.errors import CrossrecError
from crossrec.runs.assemble import assemble, load_run
from crossrec.runs.corpus import prepare_corpus
from crossrec.strategies.base import Strategy
from crossrec.strategies.domain_weights import DomainWeights


def test_lines_over_training() -> None:
    weights = DomainWeights(["a", "b", "c"], {"a": [1, 0], "b": [2, 2, 0, 0]})
    assert not weights.constant
    assert weights.at(0.0) == [1, 2, 1]
    assert weights.at(0.25) == pytest.approx([0.75, 2, 1])
    assert weights.at(0.5) == pytest.approx([0.5, 1, 1])
    assert weights.at(1.0) == [0, 0, 1]
    assert DomainWeights(["a", "b"], {"a": [3, 3], "b": 2}).constant


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"c": 2}, "domain_weights names 'c', but the domains are a, b"),
        ({"a": -1}, r"domain_weights\.a=-1 must be a number, 0 or more"),
        ({"a": [1, float("nan")]}, r"domain_weights\.a=\[1, nan\] must be a number"),
        ({"a": "1"}, r"domain_weights\.a='1' must be"),
        ({"a": []}, r"domain_weights\.a=\[\] must be"),
        ({"a": 0, "b": 0}, "no domain to learn from at 0% of training"),
        ({"a": [1, 0, 0], "b": [0, 0, 1]}, "no domain to learn from at 50% of training"),
    ],
)
def test_weights_that_mean_nothing_are_refused(given: dict, message: str) -> None:
    with pytest.raises(CrossrecError, match=message):
        DomainWeights(["a", "b"], given)


def test_weights_weigh_the_domains(small: list[str]) -> None:
    words = [*small, "strategy=cmf"]
    plain = run(words)
    equal = run([*words, "strategy.domain_weights={a: 1, b: 1}"])
    skewed = run([*words, "strategy.domain_weights={a: 0.1}"])
    falling = run([*words, "strategy.domain_weights={a: [0.1, 0]}"])
    assert plain.metrics["test"] == pytest.approx(equal.metrics["test"], abs=1e-6)
    scores = {made.metrics["test"]["test/b/auc"] for made in (plain, skewed, falling)}
    assert len(scores) == 3


@pytest.mark.parametrize("objective", ["bpr", "bce", "softmax", "sampled_softmax"])
def test_a_domain_of_weight_zero_trains_nothing_of_its_own(small: list[str], objective: str) -> None:
    words = [*small, "strategy=cmf", f"objective={objective}", "strategy.domain_weights={a: 0}", "batch_size=16"]
    config = composed(words)
    start = assemble(config, prepare_corpus(config)).model
    _, parts = load_run(run(words).path)
    a, b = parts.corpus.domains
    items = torch.arange(parts.corpus.n_items)
    with torch.no_grad():
        moved = (parts.model.item_encoder(items) != start.item_encoder(items)).any(1)
    assert not moved[a.start : a.stop].any() and moved[b.start : b.stop].all()


def test_a_domain_is_left_out_from_where_its_line_is_zero(small: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    end = Strategy.on_train_epoch_end

    def keep(self: Strategy) -> None:
        end(self)
        kept.append(self.item_encoder(torch.arange(self.domains[-1].stop)).detach().clone())

    monkeypatch.setattr(Strategy, "on_train_epoch_end", keep)
    words = [
        "strategy=merged",
        "callbacks=none",
        "optimizer=sgd",
        "optimizer.lr=1",
        "optimizer.momentum=0",
        "trainer.max_epochs=4",
    ]
    made = run([*small, *words, "strategy.domain_weights={a: [1, 0, 0]}"])
    a, b = load_run(made.path)[1].corpus.domains
    moved = [(after != before).any(1) for before, after in itertools.pairwise(kept)]
    assert [bool(m[a.start : a.stop].any()) for m in moved] == [True, False, False]
    assert all(bool(m[b.start : b.stop].all()) for m in moved)


def test_a_line_needs_an_end_of_training(small: list[str]) -> None:
    with pytest.raises(CrossrecError, match=r"strategy\.domain_weights changes with .* training has no end"):
        run([*small, "strategy=merged", "strategy.domain_weights={a: [1, 0]}", "trainer.max_epochs=-1"])
