"""The files of a compressed text model: a folder in Hugging Face's layout with one more file that says how."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from crossrec.encoders.int8 import (
    DynamicLinear,
    Int8Layer,
    RowEmbedding,
    WeightOnlyLinear,
    int8_layers,
    reads_8_bits,
    replace,
)
from crossrec.errors import CrossrecError

MANIFEST = "compressed.json"
"""Says which layers are in int8, which are narrower than the configuration has them, and which tensors are sparse."""

WEIGHTS = "model.safetensors"
KINDS = {"dynamic": DynamicLinear, "embedding": RowEmbedding, "weight_only": WeightOnlyLinear}


def manifest(folder: Path) -> Mapping[str, Any] | None:
    """Read the manifest; None of a folder that has none: its model is an ordinary one."""
    path = folder / MANIFEST
    found: Mapping[str, Any] | None = json.loads(path.read_text()) if path.is_file() else None
    return found


def cpu_only(folder: Path) -> bool:
    """Whether the model in a folder has layers that only a CPU has."""
    return any(layer["kind"] == "dynamic" for layer in ((manifest(folder) or {}).get("int8") or {}).values())


def write_network(network: Any, tokenizer: Any, folder: Path) -> None:
    """Write a network so that :func:`read_network` gives the same one, in safetensors.

    A tensor with so many zeros that a bit for each place and the values that are not zero take fewer bytes is written
    so; it is whole again in memory.

    Args:
        network: of `transformers`, without a head; layers may be in int8, or narrower than its configuration has them.
        tokenizer: its tokenizer.
        folder: made if need be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    network.config.architectures = [type(network).__name__]
    network.config.save_pretrained(folder)
    int8 = dict(int8_layers(network))
    tensors = {name: value.detach().cpu().contiguous() for name, value in _tensors(network, int8).items()}
    stored, sparse = _packed(tensors)
    save_file(stored, folder / WEIGHTS, {"format": "pt"})
    about = {
        "int8": {name: _kind(layer) for name, layer in int8.items()},
        "linear": {name: [m.out_features, m.in_features] for name, m in network.named_modules() if _is_linear(m)},
        "heads": {name: m.num_attention_heads for name, m in network.named_modules() if hasattr(m, "all_head_size")},
        "sparse": sparse,
    }
    (folder / MANIFEST).write_text(json.dumps(about, indent=2, sort_keys=True) + "\n")


def read_network(folder: Path) -> nn.Module:
    """Build the network of a folder that :func:`write_network` wrote, in fp32 where it is not in int8.

    Raises:
        CrossrecError: its files do not fit each other, or this processor cannot multiply what it holds.
    """
    from transformers import AutoConfig, AutoModel

    about = manifest(folder)
    assert about is not None
    if not reads_8_bits() and any(layer.get("bits") == 8 for layer in about["int8"].values()):
        raise CrossrecError(
            f"{folder} multiplies 8 bits by 8 bits, which overflows on this processor, without VNNI instructions: "
            "compress with activation_bits=7"
        )
    with torch.random.fork_rng(devices=[]):
        network: nn.Module = AutoModel.from_config(AutoConfig.from_pretrained(folder))
    tensors = _unpacked(load_file(folder / WEIGHTS), about["sparse"])
    for name, (out, into) in about["linear"].items():
        old: Any = network.get_submodule(name)
        if (old.out_features, old.in_features) != (out, into):
            replace(network, name, nn.Linear(into, out, bias=old.bias is not None))
    for name, heads in about["heads"].items():
        set_heads(network.get_submodule(name), heads)
    for name, layer in about["int8"].items():
        keys = [key for key in tensors if key.rpartition(".")[0] == name]
        given = {key.rpartition(".")[2]: tensors.pop(key) for key in keys}
        replace(network, name, _layer(given, **layer))
    inside = tuple(f"{name}." for name in about["int8"])
    missing, unexpected = network.load_state_dict(tensors, strict=False)
    wrong = [name for name in (*missing, *unexpected) if not name.startswith(inside)]
    if wrong:
        raise CrossrecError(f"{folder / WEIGHTS} does not fit {folder / MANIFEST} ({wrong[0]}): compress again")
    return network


def set_heads(attention: Any, heads: int) -> None:
    """Tell an attention of BERT's kind how many heads it has, whose width stays."""
    attention.num_attention_heads = heads
    attention.all_head_size = heads * attention.attention_head_size


def memory(network: nn.Module) -> int:
    """Bytes of a network's weights in memory."""
    tensors = _tensors(network, dict(int8_layers(network)))
    return sum(value.numel() * value.element_size() for value in tensors.values())


def _tensors(network: nn.Module, int8: Mapping[str, Int8Layer]) -> dict[str, Tensor]:
    """All tensors of a network by name; those of its layers in int8 are what makes the layer again."""
    inside = {f"{name}.{key}": value for name, layer in int8.items() for key, value in layer.tensors().items()}
    others = {name: v for name, v in network.state_dict().items() if name.rpartition(".")[0] not in int8}
    return {**inside, **others}


def _is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | DynamicLinear)


def _kind(layer: Int8Layer) -> dict[str, Any]:
    (kind,) = (name for name, made in KINDS.items() if isinstance(layer, made))
    return {"kind": kind, "bits": layer.bits} if isinstance(layer, DynamicLinear) else {"kind": kind}


def _layer(tensors: dict[str, Tensor], kind: str, bits: int = 8) -> nn.Module:
    if kind == "embedding":
        return RowEmbedding(**tensors)
    bias = tensors.pop("bias", None)
    if kind == "dynamic":
        return DynamicLinear(**tensors, bias=bias, bits=bits)
    return WeightOnlyLinear(**tensors, bias=bias)


def _packed(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, list[int]]]:
    """Tensors to store, and the shapes of those that became ``<name>:places`` (bits) and ``<name>:values``."""
    stored, sparse = {}, {}
    for name, value in tensors.items():
        flat = value.flatten()
        places = flat != 0
        values = flat[places]
        if values.numel() * value.element_size() + math.ceil(flat.numel() / 8) < flat.numel() * value.element_size():
            stored[f"{name}:places"] = torch.from_numpy(np.packbits(places.numpy()))
            stored[f"{name}:values"] = values
            sparse[name] = list(value.shape)
        else:
            stored[name] = value.clone()  # tensors that share memory cannot be stored
    return stored, sparse


def _unpacked(stored: dict[str, Tensor], sparse: Mapping[str, list[int]]) -> dict[str, Tensor]:
    for name, shape in sparse.items():
        values, bits = stored.pop(f"{name}:values"), stored.pop(f"{name}:places")
        places = np.unpackbits(bits.numpy(), count=math.prod(shape)).astype(bool)
        flat = torch.zeros(math.prod(shape), dtype=values.dtype)
        flat[torch.from_numpy(places)] = values
        stored[name] = flat.reshape(shape)
    return stored
