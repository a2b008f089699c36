"""A small network beside a frozen text model, fed with the states of its layers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crossrec.encoders.feature_cache import FeatureCache
from crossrec.encoders.model_files import ModelSize
from crossrec.encoders.pretrained import PretrainedText
from crossrec.encoders.text_model import TextModel
from crossrec.encoders.tuned_text import Tower
from crossrec.encoders.tuning import Tuning, transformer
from crossrec.errors import CrossrecError
from crossrec.ranges import at_least

TEMPERATURE = 0.1
"""Of the gates: their weights move in large steps of the share that they stand for."""


class LayerStates:
    """A text model whose vector of a text is the pooled states of several layers, one after the other.

    Args:
        encoder: the model.
        every: see :meth:`PretrainedText.states`.
    """

    def __init__(self, encoder: PretrainedText, every: int) -> None:
        self.encoder = encoder
        self.every = every
        self.model = encoder.model
        self.max_length = encoder.max_length

    @property
    def count(self) -> int:
        """How many layers that are."""
        return self.encoder.depth // self.every + 1

    @cached_property
    def key(self) -> str:
        """Of the model and the choice of layers."""
        return hashlib.sha256(f"{self.encoder.key} every {self.every} layers".encode()).hexdigest()

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the key stands for."""
        return {**self.encoder.facts, "layers": f"every {self.every}"}

    @property
    def size(self) -> ModelSize:
        """Of the model."""
        return self.encoder.size

    def lengths(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Tokens of every text."""
        return self.encoder.lengths(texts)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Encode one batch of texts to (n, m w), of m layers."""
        return self.encoder.states(texts, self.every).flatten(1)


class Ladder(Tower):
    """The last layer's state and what a ladder of small layers adds to it.

    With x_0 .. x_m the pooled states of the layers, N a layer norm without weights, D_i linear maps to width h and g_i
    = sigmoid(a_i / T), T = 0.1, a_i trainable and zero at first:

    s_0 = D_0 N(x_0);  z_i = g_i D_i N(x_i) + (1 - g_i) s_(i-1);  s_i = z_i + B_i GELU(A_i z_i);  y = x_m + U s_m,

    with U zero at first, so that training begins from the frozen model's vectors.

    Source: Sung et al., "LST: Ladder side-tuning for parameter and memory efficient transfer learning", NeurIPS 2022
    (gated ladder, T); Fu et al., "IISAN: Efficiently adapting multimodal representation for sequential recommendation
    with decoupled PEFT", SIGIR 2024 (states of layers cached, blocks instead of transformer layers, some layers left
    out). Deviations: one modality; the norm, which makes layers of any size alike; U at zero.

    Args:
        states: (n, m + 1, w) pooled states of the texts' layers, the last layer last.
        width: h, of the side network.
        model: name of the frozen model.
        key: of its layers' states.
        learning_rate: of the side network; None is the optimizer's.

    Shape:
        rows (n,) -> (n, w).
    """

    states: Tensor

    def __init__(self, states: Tensor, width: int, model: str, key: str, learning_rate: float | None = None) -> None:
        super().__init__(model, key, learning_rate)
        rungs, w = states.shape[1], states.shape[2]
        self.register_buffer("states", states, persistent=False)
        self.down = nn.ModuleList(nn.Linear(w, width) for _ in range(rungs))
        self.gates = nn.Parameter(torch.zeros(rungs - 1))
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)) for _ in range(rungs - 1)
        )
        self.up = nn.Linear(width, w)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, rows: Tensor) -> Tensor:
        """Features (n, w) of the texts ``rows`` (n,)."""
        states = self.states[rows].float()
        inputs = F.layer_norm(states, states.shape[-1:]).unbind(1)
        side: Tensor = self.down[0](inputs[0])
        gates = torch.sigmoid(self.gates / TEMPERATURE)
        for gate, down, block, x in zip(gates, self.down[1:], self.blocks, inputs[1:]):
            side = gate * down(x) + (1 - gate) * side
            side = side + block(side)
        features: Tensor = states[:, -1] + self.up(side).float()
        return features


class SideNetwork(Tuning):
    """A :class:`Ladder` beside the frozen model, whose layers' states are computed once and cached.

    Args:
        width: h, of the side network.
        every: read the last layer and every so many-th before it.
        lr: learning rate of the side network, as a parameter group of the optimizer; None is the optimizer's.

    Raises:
        CrossrecError: ``width`` or ``every`` is not 1 or more, or ``every`` leaves only the last layer.
    """

    name = "side_network"

    def __init__(self, width: int = 64, every: int = 1, lr: float | None = None) -> None:
        at_least("tuning.width", width, 1)
        at_least("tuning.every", every, 1)
        self.width = width
        self.every = every
        self.lr = lr

    def tower(self, model: TextModel, texts: Sequence[str], cache: FeatureCache) -> Ladder:
        """Take the layers' states from a cache of their own; see :meth:`Tuning.tower`."""
        encoder = transformer(model)
        if self.every > encoder.depth:
            raise CrossrecError(
                f"tuning.every={self.every} leaves only the last of the {encoder.depth} layers of {encoder.model!r}"
            )
        layers = LayerStates(encoder, self.every)
        states = cache.encode(texts, layers).reshape(len(texts), layers.count, -1)
        kept = torch.from_numpy(states).half()  # fp16 loses nothing, the cache holds that
        return Ladder(kept, self.width, encoder.model, layers.key, self.lr)
