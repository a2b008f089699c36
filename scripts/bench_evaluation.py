"""Time the evaluation: against torchmetrics' retrieval classes, against a plain top-k, and on a whole catalogue.

python scripts/bench_evaluation.py [--threads 2]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable

import torch
from torchmetrics import retrieval

from crossrec.data.batches import QueryBatch
from crossrec.evaluation.collector import RankingMetrics
from crossrec.evaluation.metrics import names

K = 10


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Shortest of some runs after one to warm up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def queries(n_queries: int, n_items: int, n_relevant: int, n_seen: int, generator: torch.Generator) -> QueryBatch:
    items = torch.rand(n_queries, n_items, generator=generator).topk(n_relevant + n_seen, dim=1).indices
    none = torch.zeros((n_queries, 0), dtype=torch.long)
    return QueryBatch(
        users=torch.arange(n_queries),
        history=none,
        relevant=items[:, :n_relevant],
        seen=items[:, n_relevant:],
        candidates=none,
        domain=0,
        cold=torch.zeros(n_queries, dtype=torch.bool),
    )


def ours(scores: torch.Tensor, batch: QueryBatch, lists: bool = False) -> dict[str, torch.Tensor]:
    metric = RankingMetrics(n_items=scores.shape[1], start=0, ks=(K,), lists=lists)
    metric.update(scores, batch)
    return metric.compute()


def theirs(scores: torch.Tensor, batch: QueryBatch) -> dict[str, torch.Tensor]:
    """The five classes whose values agree with ours at a cutoff, and the area under the curve."""
    n_queries, n_items = scores.shape
    index = torch.arange(n_queries).repeat_interleave(n_items)
    target = torch.zeros(scores.shape, dtype=torch.long).scatter_(1, batch.relevant, 1).flatten()
    classes = {
        f"recall@{K}": retrieval.RetrievalRecall(top_k=K),
        f"precision@{K}": retrieval.RetrievalPrecision(top_k=K),
        f"hit@{K}": retrieval.RetrievalHitRate(top_k=K),
        f"ndcg@{K}": retrieval.RetrievalNormalizedDCG(top_k=K),
        f"mrr@{K}": retrieval.RetrievalMRR(top_k=K),
        "auc": retrieval.RetrievalAUROC(),
    }
    values = {}
    for name, metric in classes.items():
        metric.update(scores.flatten(), target, indexes=index)
        values[name] = metric.compute()
    return values


def naive(scores: torch.Tensor, batch: QueryBatch) -> dict[str, torch.Tensor]:
    """Recall, hit and NDCG of a plain masked top-k, as most recommendation code computes them; ties in any order."""
    rows = torch.arange(len(scores)).unsqueeze(1)
    masked = scores.clone()
    masked[rows, batch.seen] = -torch.inf
    top = masked.topk(K, dim=1).indices
    hits = (top.unsqueeze(2) == batch.relevant.unsqueeze(1)).any(2).double()
    discount = 1 / torch.log2(torch.arange(K) + 2.0)
    ideal = discount[: min(K, batch.relevant.shape[1])].sum()
    return {
        f"recall@{K}": hits.mean(0).sum() / batch.relevant.shape[1],
        f"hit@{K}": hits.any(1).double().mean(),
        f"ndcg@{K}": ((hits * discount).sum(1) / ideal).mean(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    torch.set_num_threads(parser.parse_args().threads)
    generator = torch.Generator().manual_seed(0)

    scores = torch.rand(5000, 1000, generator=generator)
    batch = queries(5000, 1000, 3, 0, generator)
    a, b, c = ours(scores, batch), theirs(scores, batch), naive(scores, batch)
    apart = max(abs(float(a[name]) - float(value)) for other in (b, c) for name, value in other.items())
    assert apart < 1e-6 and math.isfinite(apart), f"the values differ by {apart}"
    fast, slow = seconds(lambda: ours(scores, batch), 5), seconds(lambda: theirs(scores, batch), 1)
    plain = seconds(lambda: naive(scores, batch), 5)
    print(
        f"5,000 queries x 1,000 candidates, 3 relevant ({torch.get_num_threads()} threads); values within {apart:.0e}"
    )
    print(f"  crossrec, {len(names((K,)))} metrics     {fast * 1e3:9.1f} ms")
    print(f"  torchmetrics, {len(b)} metrics {slow * 1e3:9.1f} ms   {slow / fast:6.0f} times ours")
    print(f"  plain top-k, {len(c)} metrics  {plain * 1e3:9.1f} ms   {plain / fast:6.1f} times ours")

    n_queries, n_items, dim = 1024, 27_637, 64
    users, items = torch.randn(n_queries, dim, generator=generator), torch.randn(n_items, dim, generator=generator)
    scores, batch = users @ items.T, queries(n_queries, n_items, 1, 30, generator)
    print(f"{n_queries:,} queries x {n_items:,} items, 1 relevant, 30 seen")
    for name, work in {
        f"scores ({dim}-wide product)": lambda: users @ items.T,
        "crossrec, no lists": lambda: ours(scores, batch),
        "crossrec, with lists": lambda: ours(scores, batch, lists=True),
        "plain top-k": lambda: naive(scores, batch),
    }.items():
        print(f"  {name:24s}{seconds(work, 5) * 1e3:9.1f} ms")


if __name__ == "__main__":
    main()
