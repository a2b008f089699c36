"""What a run took of another's weights."""

from typing import Any

import torch

from crossrec.commands.train import composed
from crossrec.runs.assemble import assemble
from crossrec.runs.corpus import prepare_corpus
from crossrec.runs.handover import HandOver, hand_over
from crossrec.runs.store import RunFolder
from crossrec.strategies.base import Strategy


def after(made: RunFolder, what: str = "best") -> dict[str, Any]:
    state: dict[str, Any] = torch.load(getattr(made, what), weights_only=True)["state_dict"]
    return state


def taken(words: list[str], source: RunFolder, **init: Any) -> tuple[Strategy, dict[str, Any], HandOver]:
    """The model that the words make, before and after the hand-over."""
    config = composed(words)
    config["init"] = {"from": str(source.path), "freeze": [], **init}
    corpus = prepare_corpus(config)
    model = assemble(config, corpus).model
    before = {name: v.clone() for name, v in model.state_dict().items() if isinstance(v, torch.Tensor)}
    return model, before, hand_over(model, config, corpus)
