"""Epoch of the pairwise and of the sequence objective against a bare torch loop: same arithmetic, same batches.

    python scripts/bench_training.py [pairwise] [sequence] [softmax]

Pairwise: BPR on ML-1M and ML-100K, id towers of width 64. Sequence: transformer over id items of Food-Kitchen, sampled
softmax. Both sides read the same loader; epochs alternate between the two and the median of each is compared.
Softmax: the full softmax, forward and backward, against F.cross_entropy on the whole matrix of scores.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Callable

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crossrec.commands.train import composed
from crossrec.objectives.softmax import FullSoftmax
from crossrec.runs.assemble import Assembly, assemble
from crossrec.runs.corpus import prepare_corpus
from crossrec.runs.train import quiet

EPOCHS = 5
CASES = {
    "pairwise": ["data=movielens", "split=ratio", "strategy=merged", "objective=bpr", "batch_size=2048", "target=all"],
    "sequence": [
        "data=food_kitchen", "strategy=merged", "user_encoder=transformer", "objective=sampled_softmax",
        "batch_size=256", "target=all",
    ],
}  # fmt: skip


class Clock(pl.Callback):
    """Seconds of every training epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.begun = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.seconds.append(time.perf_counter() - self.begun)


class BarePairwise(nn.Module):
    def __init__(self, parts: Assembly) -> None:
        super().__init__()
        self.users = nn.Embedding(parts.corpus.n_users, 64)
        self.items = nn.Embedding(parts.corpus.n_items, 64)
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, batch: object) -> Tensor:
        user, negatives = self.users(batch.users), self.items(batch.negatives)
        positive = (user * self.items(batch.positives)).sum(-1)
        return -F.logsigmoid(positive[:, None] - torch.einsum("bf,bnf->bn", user, negatives)).mean()


class BareSequence(nn.Module):
    def __init__(self, parts: Assembly, encoder: dict[str, object]) -> None:
        super().__init__()
        self.items = nn.Embedding(parts.corpus.n_items, 64)
        self.positions = nn.Embedding(50, 64)
        self.domain = nn.Embedding(len(parts.corpus.domains), 64)
        nn.init.normal_(self.items.weight, std=0.02)
        layer = dict(d_model=64, nhead=int(encoder["n_heads"]), dim_feedforward=256, dropout=float(encoder["dropout"]))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(**layer, batch_first=True, norm_first=True, activation="gelu")
            for _ in range(int(encoder["n_layers"]))
        )
        self.norm = nn.LayerNorm(64)
        self.dropout = nn.Dropout(float(encoder["dropout"]))
        self.domains = parts.corpus.domains
        self.register_buffer("stops", torch.tensor([d.stop for d in self.domains]))

    def forward(self, batch: object) -> Tensor:
        items = batch.history.clamp_min(0)
        length = items.shape[1]
        x = (
            self.items(items)
            + self.positions.weight[:length]
            + self.domain(torch.bucketize(items, self.stops, right=True))
        )
        x = self.dropout(x)
        mask = nn.Transformer.generate_square_subsequent_mask(length)
        for layer in self.layers:
            x = layer(x, src_mask=mask, is_causal=True)
        rows = batch.targets >= 0
        states, targets, domains = self.norm(x)[rows], batch.targets[rows], batch.domains[rows]
        total = states.new_zeros(())
        for d in self.domains:
            mine = domains == d.index
            if not mine.any():
                continue
            u, ids, negatives = states[mine], targets[mine], batch.negatives[d.index]
            positive = (u * self.items(ids)).sum(-1, keepdim=True)
            scores = (u @ self.items(negatives).T).masked_fill(negatives[None] == ids[:, None], float("-inf"))
            logits = torch.cat([positive, scores - torch.log(torch.tensor(len(negatives) / d.n_items))], 1)
            total = total + F.cross_entropy(logits, torch.zeros(len(u), dtype=torch.long), reduction="sum")
        return total / rows.sum()


def bare_epoch(model: nn.Module, optimizer: torch.optim.Optimizer, loader: object, epoch: int) -> float:
    loader.set_epoch(epoch)
    begun = time.perf_counter()
    model.train()
    for batch in loader:
        loss = model(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.perf_counter() - begun


def measure(name: str) -> None:
    config = composed(CASES[name])
    parts = assemble(config, prepare_corpus(config))
    make: dict[str, Callable[[], nn.Module]] = {
        "pairwise": lambda: BarePairwise(parts),
        "sequence": lambda: BareSequence(parts, config["user_encoder"]),
    }
    bare = make[name]()
    optimizer = torch.optim.AdamW(bare.parameters(), lr=1e-3, weight_decay=0.0, fused=True)
    loader = parts.datamodule.train_dataloader()
    clock = Clock()
    bare_seconds: list[float] = []

    class Alternate(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            bare_seconds.append(bare_epoch(bare, optimizer, loader, trainer.current_epoch))

    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=EPOCHS + 1, limit_val_batches=0, logger=False, enable_checkpointing=False,
        enable_model_summary=False, callbacks=[Alternate(), clock], use_distributed_sampler=False,
    )  # fmt: skip
    trainer.fit(parts.model, datamodule=parts.datamodule)
    ours, theirs = clock.seconds[1:], bare_seconds[1:]
    ratios = sorted(a / b for a, b in zip(ours, theirs))
    print(
        f"{name}: crossrec {statistics.median(ours):.2f} s, bare torch {statistics.median(theirs):.2f} s an epoch of "
        f"{len(loader)} batches; ratio median {statistics.median(ratios):.2f} "
        f"(min {ratios[0]:.2f}, max {ratios[-1]:.2f})"
    )


def softmax(rows: int = 1500, items: int = 29_000, width: int = 64, steps: int = 7) -> None:
    generator = torch.Generator().manual_seed(0)
    users = (0.3 * torch.randn(rows, width, generator=generator)).requires_grad_()
    catalogue = (0.3 * torch.randn(items, width, generator=generator)).requires_grad_()
    target = torch.randint(0, items, (rows,), generator=generator)
    objective = FullSoftmax()
    losses: dict[str, Callable[[], Tensor]] = {
        "crossrec": lambda: objective.catalogue(users, catalogue, target),
        "F.cross_entropy": lambda: F.cross_entropy(users @ catalogue.T, target),
    }
    seconds: dict[str, list[float]] = {name: [] for name in losses}
    for _ in range(steps):
        for name, loss in losses.items():
            users.grad = catalogue.grad = None
            begun = time.perf_counter()
            loss().backward()
            seconds[name].append(time.perf_counter() - begun)
    ours, theirs = (statistics.median(seconds[name][1:]) for name in losses)
    print(
        f"softmax, {rows} x {items}: crossrec {ours:.3f} s, F.cross_entropy {theirs:.3f} s; ratio {ours / theirs:.2f}"
    )


if __name__ == "__main__":
    quiet()
    warnings.filterwarnings("ignore")
    for case in sys.argv[1:] or [*CASES, "softmax"]:
        softmax() if case == "softmax" else measure(case)
