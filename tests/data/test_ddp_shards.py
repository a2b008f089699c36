import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from corpora import random_corpus

from crossrec.data.batches import PAD
from crossrec.data.datamodule import MultiDomainDataModule
from crossrec.data.loading import BatchLoader, QueryLoader
from crossrec.data.sampling import Cycle, Proportional
from crossrec.data.splits import LeaveOneOut
from crossrec.errors import CrossrecError

SCRIPT = """
import sys
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import DDPStrategy
from test_ddp_shards import build


class Recorder(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = {"train": [], "valid": [], "test": []}

    def keep(self, stage, batch):
        self.seen[stage].append({k: v for k, v in vars(batch).items()} | {"epoch": self.current_epoch})

    def training_step(self, batch, batch_idx):
        self.keep("train", batch)
        return self.weight.sum()

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.keep("valid", batch)

    def test_step(self, batch, batch_idx, dataloader_idx=0):
        self.keep("test", batch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


model, data = Recorder(), build(sys.argv[2])
trainer = pl.Trainer(
    max_epochs=2, accelerator="cpu", devices=2, strategy=DDPStrategy(process_group_backend="gloo"), logger=False,
    enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
    use_distributed_sampler=False, check_val_every_n_epoch=2,
)
trainer.fit(model, datamodule=data)
trainer.test(model, datamodule=data, verbose=False)
torch.save(model.seen, Path(sys.argv[1]) / f"{trainer.global_rank}.pt")
"""


def build(kind):
    return MultiDomainDataModule(
        random_corpus(),
        LeaveOneOut(),
        batch=kind,
        n_negatives=2,
        batch_size=64 if kind != "sequence" else 9,
        sampler=Cycle(),
        uses_history=True,
        query_batch_size=7,
        n_candidates=3,
    )


def joined(parts):
    """Rows of all ranks back in the order of the whole batch, which rank r of w holds as r, r + w, ...."""
    rows = torch.empty(sum(len(p) for p in parts), *parts[0].shape[1:], dtype=parts[0].dtype)
    for rank, part in enumerate(parts):
        rows[rank :: len(parts)] = part
    return rows


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("sampler", [Proportional(), Cycle()], ids=["proportional", "cycle"])
@pytest.mark.parametrize("kind", ["pairwise", "sequence", "pointwise"])
def test_the_parts_of_a_batch_are_the_batch(kind, sampler, world):
    module = build(kind)
    whole = module.train_dataloader()
    options = {"batch_size": whole._batch_size, "seed": 0}
    loaders = [
        BatchLoader(whole._source, sampler, whole._rows, rank=r, world_size=world, **options) for r in range(world)
    ]
    single = BatchLoader(whole._source, sampler, whole._rows, **options)
    assert {len(x) for x in loaders} == {len(single)}
    for loader in (single, *loaders):
        loader.set_epoch(4)
    for batch, *parts in zip(single, *loaders, strict=True):
        for f in fields(batch):
            pieces = [getattr(p, f.name) for p in parts]
            if kind == "pointwise":  # positives first, then negatives in the order of their positives
                n = [int(p.labels.sum()) for p in parts]
                positive = joined([x[:k] for x, k in zip(pieces, n)])
                negative = joined([x[k:].reshape(k, -1) for x, k in zip(pieces, n)]).flatten()
                assert torch.equal(torch.cat([positive, negative]), getattr(batch, f.name))
            else:
                assert torch.equal(joined(pieces), getattr(batch, f.name))


def test_batches_smaller_than_the_processes_are_refused():
    whole = build("pairwise").train_dataloader()
    with pytest.raises(CrossrecError, match="raise batch_size"):
        BatchLoader(whole._source, Cycle(), whole._rows, batch_size=4, seed=0, rank=0, world_size=5)


@pytest.mark.parametrize("world", [2, 3, 50])
def test_queries_are_shared_out_without_repetition(world):
    queries = build("pairwise").queries("test", 1)
    shares = [[u for b in QueryLoader(queries, 7, r, world) for u in b.users.tolist()] for r in range(world)]
    assert sorted(u for share in shares for u in share) == queries.users.tolist()
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("kind", ["pairwise", pytest.param("sequence", marks=pytest.mark.slow)])
def test_two_gloo_processes_see_what_one_sees(tmp_path, kind):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    here = Path(__file__).parent
    path = os.pathsep.join([str(here), str(here.parents[1])])
    environment = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE")}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), kind],
        env=environment | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [torch.load(tmp_path / f"{r}.pt", weights_only=True) for r in range(2)]
    module = build(kind)
    loader = module.train_dataloader()
    assert len(ranks[0]["train"]) == len(ranks[1]["train"]) == 2 * len(loader)
    for epoch in range(2):
        loader.set_epoch(epoch)
        piece = slice(epoch * len(loader), (epoch + 1) * len(loader))
        for batch, *parts in zip(loader, *(r["train"][piece] for r in ranks), strict=True):
            assert all(p["epoch"] == epoch for p in parts)
            for f in fields(batch):
                assert torch.equal(joined([p[f.name] for p in parts]), getattr(batch, f.name))
    for stage, loaders in (("valid", module.val_dataloader()), ("test", module.test_dataloader())):
        expected = {
            (b.domain, u): (h, c)
            for x in loaders
            for b in x
            for u, h, c in zip(b.users.tolist(), b.history, b.candidates)
        }
        found = [
            (b["domain"], u, h, c)
            for r in ranks
            for b in r[stage]
            for u, h, c in zip(b["users"].tolist(), b["history"], b["candidates"])
        ]
        assert len(found) == len(expected) == len({f[:2] for f in found})
        for domain, user, history, candidates in found:
            h, c = expected[domain, user]
            assert torch.equal(history[history != PAD], h[h != PAD]) and torch.equal(candidates, c)
