"""What a command line sets that its run never reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from crossrec.config import target_name

TRAINING = (
    "optimizer", "scheduler", "sampler", "batch_size", "callbacks", "checkpoint_every_n_steps", "trainer.max_epochs",
    "trainer.max_steps", "trainer.gradient_clip_val", "trainer.accumulate_grad_batches",
    "trainer.check_val_every_n_epoch", "adaptation", "objective", "negatives",
)  # fmt: skip
"""Keys and groups that only training reads."""


def without_effect(config: Mapping[str, Any], overrides: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each word that has no effect on the one run it is given for.

    It is no mistake to be refused: the line of a study's run, which has the study's base in it, may be given by hand,
    and says a run's id.

    Args:
        config: of the run, resolved.
        overrides: the words of its command line.
    """
    from hydra.utils import get_object

    from crossrec.runs.assemble import strategy_of

    strategy, encoder = strategy_of(config), get_object(config["user_encoder"]["_target_"])
    reads = getattr(strategy, "uses_history", getattr(encoder, "uses_history", True))
    for word in overrides:
        key = word.lstrip("+").partition("=")[0]
        if not strategy.trains and any(key == of or key.startswith(f"{of}.") for of in TRAINING):
            yield f"{word} has no effect, because strategy={target_name(config['strategy'])} trains nothing"
        if key == "history_length" and not reads:
            group = "strategy" if hasattr(strategy, "uses_history") else "user_encoder"
            instead = ": choose user_encoder=mean, attention or transformer" if group == "user_encoder" else ""
            yield f"{word} has no effect, because {group}={target_name(config[group])} reads no histories{instead}"
