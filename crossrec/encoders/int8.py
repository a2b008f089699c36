"""Layers whose weights are whole numbers of 8 bits, with a scale for each row."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossrec.errors import CrossrecError

LIMIT = 127.5
"""What the largest magnitude of a row becomes before it is rounded, as in torch's symmetric observers."""


def rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round each row of ``weight`` (n, m), fp32, to int8 (n, m) times a scale (n,), fp32, symmetric about zero."""
    scale = (weight.abs().amax(1) / LIMIT).clamp_min(torch.finfo(torch.float32).eps)
    return (weight / scale.unsqueeze(1)).round().clamp(-128, 127).to(torch.int8), scale


class DynamicLinear(nn.Module):
    """y = x W' + b in whole numbers: W in int8 with a scale a row, x rounded to 7 or 8 bits with a scale a batch.

    On the CPU alone. It is what ``torch.ao.quantization.quantize_dynamic`` makes of ``nn.Linear`` per channel, where
    ``bits`` is 7.

    Args:
        weight: (out, in), int8.
        scale: (out,), fp32.
        bias: (out,), or None.
        bits: of x. Processors without VNNI instructions add pairs of products in 16 bits, which overflow with 8.

    Shape:
        (..., in) -> (..., out), fp32.
    """

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None, bits: int) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.bits = bits
        zeros = torch.zeros(len(scale), dtype=torch.long)
        with (
            warnings.catch_warnings()
        ):  # torch means to drop such tensors one day; nothing takes their place on CPUs yet
            warnings.filterwarnings("ignore", message="torch.quantize_per_tensor", category=UserWarning)
            whole = torch._make_per_channel_quantized_tensor(weight, scale.double(), zeros, 0)
        self.packed: Any = torch.ops.quantized.linear_prepack(whole, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x``."""
        y: Tensor = torch.ops.quantized.linear_dynamic(x.float(), self.packed, self.bits == 7)
        return y

    def tensors(self) -> dict[str, Tensor]:
        """Arguments of the layer that are tensors, by name."""
        weight, bias = self.packed.unpack()
        found = {"weight": weight.int_repr(), "scale": weight.q_per_channel_scales().float()}
        return found if bias is None else {**found, "bias": bias}


class RowEmbedding(nn.Module):
    """A table of vectors in int8 with a scale a row, turned to fp32 where it is read.

    Args:
        weight: (n, w), int8.
        scale: (n,), fp32.

    Shape:
        (...) ids -> (..., w), fp32.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors of ``ids``."""
        return F.embedding(ids, self.weight).float() * self.scale[ids].unsqueeze(-1)

    def tensors(self) -> dict[str, Tensor]:
        """Arguments of the layer, by name."""
        return {"weight": self.weight, "scale": self.scale}


class WeightOnlyLinear(nn.Linear):
    """y = x W' + b in fp32, with W held in int8 as a tensor of `torchao`, which chooses how to multiply by it.

    Args:
        weight: (out, in), int8.
        scale: (out,), fp32.
        bias: (out,), or None.

    Raises:
        CrossrecError: `torchao` is not installed.

    Shape:
        (..., in) -> (..., out).
    """

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        nn.Module.__init__(self)
        self.out_features, self.in_features = weight.shape
        whole = torchao().Int8Tensor(weight, scale.unsqueeze(1), [1, weight.shape[1]], torch.float32)
        self.weight = nn.Parameter(whole, requires_grad=False)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)  # type: ignore[assignment]

    @classmethod
    def of(cls, linear: nn.Linear) -> WeightOnlyLinear:
        """Round a layer's weight as `torchao` does."""
        copy = nn.Linear(linear.in_features, linear.out_features, bias=False)
        copy.weight = nn.Parameter(linear.weight.detach().clone(), requires_grad=False)
        torchao().quantize_(copy, torchao().Int8WeightOnlyConfig())
        whole: Any = copy.weight
        return cls(whole.qdata, whole.scale.squeeze(1), None if linear.bias is None else linear.bias.detach())

    def tensors(self) -> dict[str, Tensor]:
        """Arguments of the layer that are tensors, by name."""
        whole: Any = self.weight
        found = {"weight": whole.qdata, "scale": whole.scale.squeeze(1)}
        return found if self.bias is None else {**found, "bias": self.bias.detach()}


INT8 = (DynamicLinear, RowEmbedding, WeightOnlyLinear)
Int8Layer = DynamicLinear | RowEmbedding | WeightOnlyLinear


def int8_layers(network: nn.Module) -> Iterator[tuple[str, Int8Layer]]:
    """Yield the layers of a network that are in int8, with their names."""
    return ((name, part) for name, part in network.named_modules() if isinstance(part, INT8))


def replace(network: nn.Module, name: str, layer: nn.Module) -> None:
    """Put ``layer`` in the place of the module of that name."""
    parent, _, last = name.rpartition(".")
    setattr(network.get_submodule(parent), last, layer)


def reads_8_bits() -> bool:
    """Whether this processor multiplies 8 bits by 8 bits without overflow."""
    if torch.backends.quantized.engine not in ("x86", "fbgemm", "onednn"):
        return True
    with open("/proc/cpuinfo") as file:  # torch tells it through a private function alone
        return any("vnni" in line for line in file if line.startswith("flags"))


def torchao() -> Any:
    """Import ``torchao.quantization``.

    Raises:
        CrossrecError: it is not installed.
    """
    try:
        with _quiet():
            import torchao.quantization
    except ImportError as error:
        raise CrossrecError("method=int8_weight_only needs torchao: pip install 'crossrec[torchao]'") from error
    return torchao.quantization


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what `torchao` logs of GPUs when it is imported."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
