"""Training of a compressed network to give the original's vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from crossrec.compression.base import Facts, Original
from crossrec.encoders.model_parts import keep_no_keys, switch_off_dropout, train_all
from crossrec.encoders.pretrained import PretrainedText
from crossrec.errors import CrossrecError
from crossrec.ranges import at_least

TAIL = 20
"""Most steps over which the first and the last losses are averaged: a quarter of all, where that is less."""


@dataclass(frozen=True)
class Distillation:
    """Teach a network the original's vectors x of the training items' texts, without labels.

    ``mse``: |y - x|^2 / s, s the mean of |x|^2 over the texts; ``cosine``: 1 - cos(y, x); each a mean over a batch.
    AdamW without weight decay, the learning rate falling to 0 as half a cosine; without dropout.

    Source: Reimers and Gurevych, "Making monolingual sentence embeddings multilingual using knowledge distillation",
    EMNLP 2020, section 2 (the mean squared error of vectors), with one language.

    Args:
        steps: 0 is none.
        loss: ``mse`` or ``cosine``.
        lr: at first.
        batch_size: texts of a step, drawn anew in each epoch.
        seed: of the draw.

    Raises:
        CrossrecError: an option has none of its values.
    """

    steps: int
    loss: Literal["mse", "cosine"] = "mse"
    lr: float = 1e-4
    batch_size: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        at_least("steps", self.steps, 0)
        at_least("batch_size", self.batch_size, 1)
        if self.loss not in ("mse", "cosine"):
            raise CrossrecError(f"loss={self.loss!r} must be mse or cosine")
        at_least("lr", self.lr, 0, strictly=True)

    @torch.enable_grad()
    def train(self, network: nn.Module, encoder: PretrainedText, original: Original) -> Facts:
        """Train what vectors depend on, in place; what the loss was at first and at last."""
        if not self.steps:
            return {"distillation steps": 0}
        targets = original.vectors
        scale = targets.double().square().sum(1).mean().clamp_min(1e-12).item()
        switch_off_dropout(network)
        keep_no_keys(network)
        train_all(network)
        trained = [p for p in network.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=self.lr, weight_decay=0.0)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        draw, order = torch.Generator().manual_seed(self.seed), torch.zeros(0, dtype=torch.long)
        losses: list[float] = []
        for _ in track(range(self.steps), "distilling", console=Console(stderr=True), transient=True):
            if not len(order):
                order = torch.randperm(len(targets), generator=draw)
            rows, order = order[: self.batch_size], order[self.batch_size :]
            made = encoder.read(network, *encoder.padded([original.texts[row] for row in rows.tolist()])).float()
            loss = self._distance(made, targets[rows].to(made.device), scale)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            scheduler.step()
            losses.append(loss.item())
        network.requires_grad_(False)
        tail = max(1, min(TAIL, self.steps // 4))
        first, last = sum(losses[:tail]) / tail, sum(losses[-tail:]) / tail
        return {"distillation steps": self.steps, f"{self.loss} at first": first, f"{self.loss} at last": last}

    def _distance(self, made: Tensor, targets: Tensor, scale: float) -> Tensor:
        if self.loss == "cosine":
            return 1 - F.cosine_similarity(made, targets).mean()
        return (made - targets).square().sum(1).mean() / scale
