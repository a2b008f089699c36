"""What a text model is made of, and which of its weights act on what."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from crossrec.errors import CrossrecError


def layers(model: nn.Module, name: str) -> nn.ModuleList:
    """Return the model's stack of layers.

    Raises:
        CrossrecError: there is no stack of ``num_hidden_layers`` modules.
    """
    count = getattr(model.config, "num_hidden_layers", None)
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise CrossrecError(f"{name!r} has no stack of layers to train the last of: choose tuning=lora or full")


def reached(model: nn.Module) -> set[nn.Parameter]:
    """Parameters, of those that need a gradient, that a text's states depend on."""
    return _behind(_run(model))


def below(model: nn.Module, layer: nn.Module) -> set[nn.Parameter]:
    """Parameters, of those that need a gradient, that the input of ``layer`` depends on."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        seen.append(positional[0] if positional else named["hidden_states"])

    handle = layer.register_forward_pre_hook(keep, with_kwargs=True)
    try:
        _run(model)
    finally:
        handle.remove()
    return _behind(seen[0])


def still(model: nn.Module, but: set[nn.Parameter]) -> None:
    """Let no parameter of the model need a gradient ``but`` those."""
    for parameter in model.parameters():
        parameter.requires_grad_(parameter in but)


def train_all(model: nn.Module) -> None:
    """Let the parameters need a gradient that a text's states depend on, and no others."""
    model.requires_grad_(True)
    still(model, but=reached(model))


def keep_no_keys(model: Any) -> None:
    """Have a model of `transformers` keep no keys and values, which are for generation."""
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = False


def switch_off_dropout(model: nn.Module) -> None:
    """Set every rate of dropout in a model of `transformers` to 0: of its modules, attributes and configuration."""
    for part in (*model.modules(), model.config):
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.p = 0.0
        for name, value in vars(part).items():
            if "drop" in name and isinstance(value, float):
                setattr(part, name, 0.0)


def keep_less(model: Any, name: str) -> None:
    """Have a model of `transformers` compute the states inside its layers again in the backward pass.

    Raises:
        CrossrecError: it cannot.
    """
    new = getattr(model, "activation_checkpointing_enable", None)  # its name in later versions of transformers 5
    try:
        if new is None:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        else:
            new(activation_checkpointing_kwargs={"use_reentrant": False})
    except ValueError as error:
        raise CrossrecError(f"tuning.gradient_checkpointing: {name!r} has none ({error})") from error
    # that made embeddings need a gradient, for a kind of checkpoint that is not this one: with it, the layers below
    # those that train would keep a graph
    model.disable_input_require_grads()


def _run(model: nn.Module) -> Tensor:
    """States of a text of three tokens, with their graph."""
    ids = torch.arange(3, device=next(model.parameters()).device).unsqueeze(0)
    states: Tensor = model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    return states


def _behind(outcome: Tensor) -> set[nn.Parameter]:
    """Parameters at the leaves of a graph: no gradient is computed, so a large model costs no more than a small one."""
    found, seen, open_nodes = set(), set(), [outcome.grad_fn]
    while open_nodes:
        node = open_nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):  # AccumulateGrad
            found.add(node.variable)
        open_nodes += [following for following, _ in node.next_functions]
    return found
