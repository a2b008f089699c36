from typing import Any

import pytest
import torch
from running import run

from crossrec.commands.train import composed
from crossrec.errors import CrossrecError
from crossrec.runs.assemble import load_run
from crossrec.runs.optimizers import optimizer_of, scheduler_of
from crossrec.runs.store import RunFolder


def moved(made: RunFolder) -> float:
    """How far a run's farthest weight of users came from zero."""
    _, parts = load_run(made.path)
    return max(float(p.detach().abs().max()) for p in parts.model.user_encoder.parameters())


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
def test_gradients_are_clipped_under_mixed_precision(small: list[str], precision: str) -> None:
    words = [*small, f"trainer.precision={precision}", "user_encoder.std=0.0", "logger=none", "trainer.max_epochs=1"]
    clipped = run([*words, "trainer.gradient_clip_val=1e-12"])
    assert clipped.finished
    assert moved(clipped) < 1e-5  # Adam's epsilon of 1e-8 is far above such gradients


def test_without_clipping_weights_move(small: list[str]) -> None:
    words = [*small, "trainer.precision=bf16-mixed", "user_encoder.std=0.0", "logger=none", "trainer.max_epochs=1"]
    assert moved(run(words)) > 1e-3


def config(*words: str) -> dict[str, Any]:
    return composed(list(words))


@pytest.mark.parametrize(
    ("words", "fused"),
    [
        ([], True),
        (["trainer.gradient_clip_val=1"], True),
        (["trainer.precision=bf16-mixed"], True),
        (["trainer.precision=bf16-mixed", "trainer.gradient_clip_val=1"], None),
        (["trainer.precision=16-mixed", "trainer.gradient_clip_val=0.5", "optimizer=adam"], None),
    ],
)
def test_a_step_is_fused_unless_gradients_are_clipped_under_mixed_precision(words: list[str], fused: Any) -> None:
    made = optimizer_of(config(*words))([torch.nn.Parameter(torch.zeros(2))])
    assert made.defaults["fused"] is fused


def test_a_fused_step_is_the_same_arithmetic() -> None:
    weights = []
    for words in ([], ["trainer.gradient_clip_val=1"]):
        torch.manual_seed(0)
        weight = torch.nn.Parameter(torch.randn(50))
        optimizer = optimizer_of(config("trainer.precision=bf16-mixed", *words))([weight])
        for _ in range(5):
            weight.grad = torch.randn(50)
            optimizer.step()
        weights.append(weight.detach())
    torch.testing.assert_close(*weights)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("optimizer.lr=-1", r"optimizer\.lr=-1 is refused by AdamW \(Invalid learning rate: -1"),
        ("optimizer.weight_decay=-0.5", r"optimizer\.weight_decay=-0\.5 is refused by AdamW \(Invalid weight_decay"),
        ("+optimizer.betas=[0.9,2]", r"optimizer\.betas=\[0\.9, 2\] is refused by AdamW \(Invalid beta"),
    ],
)
def test_a_value_that_the_optimizer_refuses_is_named(word: str, message: str) -> None:
    with pytest.raises(CrossrecError, match=message):
        optimizer_of(config(word))


def test_a_schedule_that_cannot_step_is_refused() -> None:
    with pytest.raises(
        CrossrecError, match=r"scheduler\.T_max=0 is refused by CosineAnnealingLR \(.*zero.*: set another"
    ):
        scheduler_of(config("scheduler=cosine", "scheduler.T_max=0"))
    assert scheduler_of(config()) is None
    assert scheduler_of(config("scheduler=cosine")) is not None
