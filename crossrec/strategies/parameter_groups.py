"""Which parameters an optimizer gets, and which of them at a learning rate of their own."""

from __future__ import annotations

from typing import Any

from torch import nn

from crossrec.encoders.tuned_text import Tower


def parameter_groups(model: nn.Module) -> list[nn.Parameter] | list[dict[str, Any]]:
    """Parameters that train: a list, or groups where a text tower has a learning rate of its own.

    A group sets ``lr`` alone, so it works with every optimizer of torch, and the rest of the optimizer's options hold
    for all. A scheduler multiplies each group's rate.
    """
    towers = [m for m in model.modules() if isinstance(m, Tower) and m.learning_rate is not None]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in tower.parameters() if p.requires_grad], "lr": tower.learning_rate} for tower in towers
    ]
    own = {parameter for group in groups for parameter in group["params"]}
    others = [p for p in model.parameters() if p.requires_grad and p not in own]
    return [{"params": others}, *groups] if groups else others
