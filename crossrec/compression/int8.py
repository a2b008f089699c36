"""Weights in whole numbers of 8 bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from crossrec.compression.base import Facts, NetworkCompression, Original, linear_layers
from crossrec.encoders.int8 import DynamicLinear, RowEmbedding, WeightOnlyLinear, reads_8_bits, replace, rounded
from crossrec.encoders.pretrained import PretrainedText
from crossrec.errors import CrossrecError


class Int8Dynamic(NetworkCompression):
    """Linear layers multiply whole numbers: weights in int8 per output channel, what they read rounded on the way.

    See :class:`~crossrec.encoders.int8.DynamicLinear`. For the CPU alone.

    Source: Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only
    inference", CVPR 2018, section 2.1; Krishnamoorthi, "Quantizing deep convolutional networks for efficient
    inference", arXiv 1806.08342, sections 2.3 and 3.1 (per channel, symmetric).

    Args:
        activation_bits: 7 or 8, of what a layer reads. None is 8 where the processor has VNNI instructions, which alone
            can multiply 8 bits by 8 without overflow, and 7 elsewhere, as in torch's own conversion.
        embeddings: hold the embedding tables in int8 too, with a scale a row.

    Raises:
        CrossrecError: other bits, or 8 where this processor cannot.
    """

    name = "int8_dynamic"

    def __init__(self, activation_bits: int | None = None, embeddings: bool = True) -> None:
        if activation_bits not in (None, 7, 8):
            raise CrossrecError(f"activation_bits={activation_bits} must be 7, 8 or null")
        if activation_bits == 8 and not reads_8_bits():
            raise CrossrecError(
                "activation_bits=8 overflows on this processor, which has no VNNI instructions: set it to 7"
            )
        self.activation_bits = activation_bits or (8 if reads_8_bits() else 7)
        self.embeddings = embeddings

    def resolved(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Say the bits."""
        return {**options, "activation_bits": self.activation_bits}

    def compress(self, network: nn.Module, encoder: PretrainedText, original: Original) -> Facts:
        """Replace linear layers and embeddings; see the base."""
        if encoder.device != "cpu":
            raise CrossrecError(
                f"method=int8_dynamic is for the CPU alone, and the text model runs on {encoder.device!r}: choose "
                "int8_weight_only, or hide the GPU with CUDA_VISIBLE_DEVICES="
            )
        layers = linear_layers(network, self.name)
        for name, layer in layers:
            bias = None if layer.bias is None else layer.bias.detach()
            replace(network, name, DynamicLinear(*rounded(layer.weight.detach()), bias, self.activation_bits))
        tables = round_embeddings(network) if self.embeddings else 0
        return {"linear layers": len(layers), "embedding tables": tables, "activation bits": self.activation_bits}


class Int8WeightOnly(NetworkCompression):
    """Weights of linear layers in int8 per output channel, by `torchao`; all else is computed in fp32.

    Source: the symmetric scheme per channel of Krishnamoorthi, arXiv 1806.08342, section 2.3, as `torchao` has it in
    ``Int8WeightOnlyConfig``.

    Args:
        embeddings: see :class:`Int8Dynamic`.
    """

    name = "int8_weight_only"

    def __init__(self, embeddings: bool = True) -> None:
        self.embeddings = embeddings

    def compress(self, network: nn.Module, encoder: PretrainedText, original: Original) -> Facts:
        """Replace linear layers and embeddings; see the base."""
        layers = linear_layers(network, self.name)
        for name, layer in layers:
            replace(network, name, WeightOnlyLinear.of(layer))
        return {
            "linear layers": len(layers),
            "embedding tables": round_embeddings(network) if self.embeddings else 0,
        }


def round_embeddings(network: nn.Module) -> int:
    """Hold a network's embedding tables in int8; how many those are."""
    found = [(name, part) for name, part in network.named_modules() if type(part) is nn.Embedding]
    for name, table in found:
        replace(network, name, RowEmbedding(*rounded(table.weight.detach())))
    return len(found)
