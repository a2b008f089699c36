"""Whole layers are taken out, and the rest is taught what they did."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import nn

from crossrec.compression.base import Facts, NetworkCompression, Original
from crossrec.compression.distillation import Distillation
from crossrec.encoders.model_parts import layers
from crossrec.encoders.pretrained import PretrainedText
from crossrec.errors import CrossrecError


class LayerDrop(NetworkCompression):
    """Some layers stay, in their order, and are distilled against the original's vectors.

    Source: Sajjad et al., "On the effect of dropping layers of pre-trained transformer models", Computer Speech and
    Language 2023, section 3 (alternate, and any chosen layers); distillation as in :class:`Distillation`, which takes
    the place of their fine-tuning.

    Args:
        every: of the layers 0, 1, ... every so many-th stays, from the first one on.
        keep: numbers of the layers that stay, instead.
        steps: see :class:`Distillation`, as ``loss``, ``lr``, ``batch_size`` and ``seed``.
        loss: see there.
        lr: see there.
        batch_size: see there.
        seed: see there.

    Raises:
        CrossrecError: all layers would stay, or one that stays is not there.
    """

    name = "layer_drop"

    def __init__(
        self,
        every: int | None = 2,
        keep: Sequence[int] | None = None,
        steps: int = 300,
        loss: Literal["mse", "cosine"] = "mse",
        lr: float = 1e-4,
        batch_size: int = 64,
        seed: int = 0,
    ) -> None:
        if (every is None) == (keep is None):
            raise CrossrecError("give either every=K or keep=[...] of method=layer_drop, and set the other to null")
        if every is not None and every < 2:
            raise CrossrecError(f"every={every} would keep all layers: give 2 or more")
        self.every = every
        self.keep = keep
        self.distillation = Distillation(steps, loss, lr, batch_size, seed)

    def compress(self, network: nn.Module, encoder: PretrainedText, original: Original) -> Facts:
        """Drop layers and distil; see the base."""
        stack = layers(network, encoder.model)
        kept = self._kept(len(stack))
        config: Any = network.config
        if isinstance(types := getattr(config, "layer_types", None), list):
            config.layer_types = [types[layer] for layer in kept]
        for layer in sorted(set(range(len(stack))) - set(kept), reverse=True):
            del stack[layer]
        config.num_hidden_layers = len(kept)
        config.use_cache = False  # of keys and values, for generation: layers would look in it for their old number
        return {"layers kept": kept, **self.distillation.train(network, encoder, original)}

    def _kept(self, count: int) -> list[int]:
        kept = list(range(0, count, self.every)) if self.every else sorted(set(self.keep or []))
        if not kept or kept[0] < 0 or kept[-1] >= count:
            raise CrossrecError(f"keep={list(self.keep or [])} must name some of the layers 0 to {count - 1}")
        if len(kept) == count:
            raise CrossrecError(f"all {count} layers of the text model would stay: keep fewer")
        return kept
