"""What a layer of a transformer is made of: the matrices of its attention and of its feed-forward network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from crossrec.encoders.compressed import set_heads
from crossrec.encoders.int8 import replace
from crossrec.encoders.model_parts import layers
from crossrec.errors import CrossrecError


@dataclass(frozen=True)
class Block:
    """One layer, by the names of its parts in the network.

    A *head* is what can go alone: one of attention, or where several heads share keys and values all of these.

    Args:
        attention: of the attention.
        queries: of the linear layer that makes queries, as ``keys`` and ``values``.
        keys: see there.
        values: see there.
        output: of the one that reads the heads.
        up: of those that make the neurons' input: one, or with a gate two.
        down: of the one that reads the neurons.
        heads: how many there are.
    """

    attention: str
    queries: str
    keys: str
    values: str
    output: str
    up: Sequence[str]
    down: str
    heads: int


NAMES = (
    ("attention.self", "query", "key", "value", "attention.output.dense", ("intermediate.dense",), "output.dense"),
    ("self_attn", "q_proj", "k_proj", "v_proj", "self_attn.o_proj", ("mlp.gate_proj", "mlp.up_proj"), "mlp.down_proj"),
)
"""Of BERT's kind (RoBERTa, MiniLM), and of Llama's (Qwen, SmolLM2), inside a layer."""


def blocks(network: nn.Module, model: str) -> list[Block]:
    """The layers of a network.

    Raises:
        CrossrecError: it is of neither kind, or in int8.
    """
    stack = layers(network, model)
    (base,) = (name for name, part in network.named_modules() if part is stack)
    found = [_block(network, f"{base}.{number}") for number in range(len(stack))]
    if None in found:
        raise CrossrecError(
            f"method=structured knows layers like BERT's and Llama's in fp32, and those of {model!r} "
            f"({type(stack[0]).__name__}) are others: choose magnitude, layer_drop or int8_dynamic"
        )
    return [block for block in found if block is not None]


def _block(network: nn.Module, base: str) -> Block | None:
    for inner, query, key, value, output, up, down in NAMES:
        attention = f"{base}.{inner}"
        names = [f"{attention}.{query}", f"{attention}.{key}", f"{attention}.{value}"]
        names += [f"{base}.{output}", *(f"{base}.{name}" for name in up), f"{base}.{down}"]
        try:
            parts = [network.get_submodule(name) for name in names]
        except AttributeError:
            continue
        if all(type(part) is nn.Linear for part in parts):
            part: Any = network.get_submodule(attention)
            size = part.attention_head_size if hasattr(part, "attention_head_size") else part.head_dim
            heads = parts[1].out_features // size  # type: ignore[operator]
            return Block(attention, names[0], names[1], names[2], names[3], names[4:-1], names[-1], int(heads))
    return None


@torch.no_grad()
def keep_heads(network: nn.Module, block: Block, heads: Tensor) -> None:
    """Take all heads out of a layer but ``heads`` (k,), their numbers in rising order."""
    for name in (block.queries, block.keys, block.values):
        layer: Any = network.get_submodule(name)
        replace(network, name, narrowed(layer, _rows(layer.out_features, block.heads, heads), 0))
    layer = network.get_submodule(block.output)
    replace(network, block.output, narrowed(layer, _rows(layer.in_features, block.heads, heads), 1))
    attention: Any = network.get_submodule(block.attention)
    if hasattr(attention, "all_head_size"):
        set_heads(attention, len(heads))


@torch.no_grad()
def keep_neurons(network: nn.Module, block: Block, neurons: Tensor) -> None:
    """Take all neurons out of a layer but ``neurons`` (k,), their numbers in rising order."""
    for name in (*block.up, block.down):
        layer: Any = network.get_submodule(name)
        replace(network, name, narrowed(layer, neurons, 1 if name == block.down else 0))


def narrowed(layer: nn.Linear, rows: Tensor, dim: int) -> nn.Linear:
    """Return a linear layer with the ``rows`` (0) or columns (1) of another's weight."""
    weight = layer.weight.detach().index_select(dim, rows)
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=layer.bias is not None, device=weight.device)
    made.weight = nn.Parameter(weight, requires_grad=False)
    if layer.bias is not None:
        bias = layer.bias.detach()
        made.bias = nn.Parameter(bias.index_select(0, rows) if dim == 0 else bias, requires_grad=False)
    return made


def _rows(width: int, heads: int, chosen: Tensor) -> Tensor:
    """Rows of a matrix of ``width`` rows that belong to the ``chosen`` of all heads."""
    return torch.arange(width, device=chosen.device).reshape(heads, width // heads)[chosen].flatten()
