"""Attention heads and feed-forward neurons are taken out."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from crossrec.compression.base import Facts, NetworkCompression, Original, batches
from crossrec.compression.blocks import Block, blocks, keep_heads, keep_neurons
from crossrec.compression.distillation import Distillation
from crossrec.encoders.pretrained import PretrainedText
from crossrec.errors import CrossrecError
from crossrec.ranges import at_least, rate


class Structured(NetworkCompression):
    """The heads and neurons of least importance leave every layer, whose matrices become narrower.

    With a the rms of what a neuron (or each dimension of a head) puts out and d the column of the matrix that reads
    it, its importance is a |d|, and a head's the root of the sum of squares over its dimensions. ``activation``
    measures a on tokens of training items' texts; ``weight`` takes the length of the row of the matrix that makes it
    (of values, or of the feed-forward network's last first one) in a's place. At least one of each stays.

    Source: Sun et al., "A simple and effective pruning approach for large language models" (Wanda), ICLR 2024, equation
    1, summed over what goes together; ``weight`` after Li et al., "Pruning filters for efficient ConvNets", ICLR 2017,
    section 3; heads as units after Michel et al., "Are sixteen heads really better than one?", NeurIPS 2019.

    Args:
        heads: share of each layer's heads that goes, rounded to whole heads.
        neurons: share of each layer's neurons.
        importance: see above.
        texts: training items whose texts are read, evenly spaced over all.
        steps: of a :class:`Distillation` afterwards, as ``loss``, ``lr``, ``batch_size`` and ``seed``.
        loss: see there.
        lr: see there.
        batch_size: see there.
        seed: see there.

    Raises:
        CrossrecError: a share is not from 0 to below 1, nothing would go, or an option has none of its values.
    """

    name = "structured"

    def __init__(
        self,
        heads: float = 0.25,
        neurons: float = 0.25,
        importance: Literal["weight", "activation"] = "activation",
        texts: int = 2000,
        steps: int = 0,
        loss: Literal["mse", "cosine"] = "mse",
        lr: float = 1e-4,
        batch_size: int = 64,
        seed: int = 0,
    ) -> None:
        if importance not in ("weight", "activation"):
            raise CrossrecError(f"importance={importance!r} must be weight or activation")
        at_least("texts", texts, 1)
        rate("heads", heads)
        rate("neurons", neurons)
        self.heads = heads
        self.neurons = neurons
        self.importance = importance
        self.texts = texts
        self.distillation = Distillation(steps, loss, lr, batch_size, seed)

    @torch.no_grad()
    def compress(self, network: nn.Module, encoder: PretrainedText, original: Original) -> Facts:
        """Take heads and neurons out, and distil; see the base."""
        found = blocks(network, encoder.model)
        if self.importance == "activation":
            readers = [name for block in found for name in (block.output, block.down)]
            sizes = self._activations(network, readers, encoder, original)
        else:
            sizes = {block.output: _rows(network, block.values, block) for block in found}
            sizes |= {block.down: _norms(network, block.up[-1], 1) for block in found}
        before = sum(p.numel() for p in network.parameters())
        heads, neurons = [0, 0], [0, 0]  # out, of
        for block in found:
            per_head = (sizes[block.output] * _norms(network, block.output, 0)).square().reshape(block.heads, -1).sum(1)
            per_neuron = sizes[block.down] * _norms(network, block.down, 0)
            keep_heads(network, block, _kept(per_head, self.heads, heads))
            keep_neurons(network, block, _kept(per_neuron, self.neurons, neurons))
        if not heads[0] and not neurons[0]:
            raise CrossrecError(
                f"heads={self.heads} and neurons={self.neurons} take nothing out of layers of {found[0].heads} heads: "
                "give larger shares"
            )
        after = sum(p.numel() for p in network.parameters())
        return {
            "heads out": f"{heads[0]} of {heads[1]}",
            "neurons out": f"{neurons[0]} of {neurons[1]}",
            "weights": f"{before:,} to {after:,}",
            **self.distillation.train(network, encoder, original),
        }

    def _activations(
        self, network: nn.Module, readers: list[str], encoder: PretrainedText, original: Original
    ) -> dict[str, Tensor]:
        """Root mean square, over the texts' tokens, of what each of the layers ``readers`` reads."""
        sums: dict[str, Any] = dict.fromkeys(readers, 0.0)
        tokens = 0

        def watch(name: str) -> Any:
            def add(_: nn.Module, inputs: tuple[Tensor]) -> None:
                sums[name] = sums[name] + inputs[0].flatten(0, -2)[real].double().square().sum(0)

            return network.get_submodule(name).register_forward_pre_hook(add)

        handles = [watch(name) for name in readers]
        try:
            for part in batches(original.spread(self.texts), original.batch_size):
                ids, mask = encoder.padded(part)
                real = mask.flatten().bool()
                tokens += int(real.sum())
                encoder.read(network, ids, mask)
        finally:
            for handle in handles:
                handle.remove()
        return {name: (total / max(tokens, 1)).sqrt().float() for name, total in sums.items()}


def _norms(network: nn.Module, name: str, dim: int) -> Tensor:
    """Lengths of the columns (0) or rows (1) of a linear layer's weight."""
    layer: Any = network.get_submodule(name)
    found: Tensor = layer.weight.detach().norm(dim=dim)
    return found


def _rows(network: nn.Module, name: str, block: Block) -> Tensor:
    """Lengths of the rows that make values, once for every head of attention that reads them."""
    reader: Any = network.get_submodule(block.output)
    norms = _norms(network, name, 1).reshape(block.heads, 1, -1)
    times = reader.in_features // norms.numel()
    return norms.expand(-1, times, -1).flatten()


def _kept(importance: Tensor, gone: float, count: list[int]) -> Tensor:
    """Numbers, rising, of those that stay when a share ``gone`` of them goes; ``count`` is told how many go, of all."""
    stay = max(1, len(importance) - round(gone * len(importance)))
    count[0], count[1] = count[0] + len(importance) - stay, count[1] + len(importance)
    return importance.topk(stay).indices.sort().values
