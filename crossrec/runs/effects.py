"""What a command line sets that its run never reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crossrec.config import target_name
from crossrec.errors import CrossrecError

TRAINING = (
    "optimizer", "scheduler", "sampler", "batch_size", "callbacks", "checkpoint_every_n_steps", "trainer.max_epochs",
    "trainer.max_steps", "trainer.gradient_clip_val", "trainer.accumulate_grad_batches",
    "trainer.check_val_every_n_epoch",
)  # fmt: skip
"""Keys and groups that only training reads."""


def check_effects(config: Mapping[str, Any], overrides: Sequence[str]) -> None:
    """Refuse words that have no effect on the one run they are given for.

    Words that several runs share, as in a study or with ``-m``, may each be for some of them.

    Args:
        config: of the run, resolved.
        overrides: the words of its command line.

    Raises:
        CrossrecError: names the word and why it has no effect.
    """
    from hydra.utils import get_object

    strategy, encoder = (get_object(config[group]["_target_"]) for group in ("strategy", "user_encoder"))
    reads = getattr(strategy, "uses_history", getattr(encoder, "uses_history", True))
    for word in overrides:
        key = word.lstrip("+").partition("=")[0]
        if not strategy.trains and any(key == of or key.startswith(f"{of}.") for of in TRAINING):
            name = target_name(config["strategy"])
            raise CrossrecError(f"{word} has no effect, because strategy={name} trains nothing: leave it out")
        if key == "history_length" and not reads:
            group = "strategy" if hasattr(strategy, "uses_history") else "user_encoder"
            instead = ", or choose user_encoder=mean, attention or transformer" if group == "user_encoder" else ""
            raise CrossrecError(
                f"{word} has no effect, because {group}={target_name(config[group])} reads no histories: leave it "
                f"out{instead}"
            )
