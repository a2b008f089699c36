"""What an adaptation term adds to a training step: the same model and batches with and without it.

    python scripts/bench_adaptation.py [TERM ...]

Two runs, both at batch 2,048 and width 64: `pairs`, BPR on ML-1M and ML-100K with id towers, the cheapest step there
is, and `sequences`, a transformer over Food-Kitchen with the full softmax. Steps with every term and without any
alternate; the table has the median step without a term in milliseconds, and what each term adds to it.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from itertools import islice

import torch
from rich.console import Console
from rich.table import Table

from crossrec.adaptation.base import Adaptation
from crossrec.commands.train import composed
from crossrec.config import build, options
from crossrec.runs.assemble import Assembly, assemble
from crossrec.runs.corpus import prepare_corpus
from crossrec.runs.train import quiet

STEPS = {"pairs": 12, "sequences": 4}
CASES = {
    "pairs": ["data=movielens", "split=ratio", "objective=bpr", "target=ml-100k"],
    "sequences": ["data=food_kitchen", "user_encoder=transformer", "objective=softmax", "target=food"],
}
COMMON = ["strategy=mmd", "batch_size=2048", "dim=64", "sampler=cycle"]


def terms(names: list[str]) -> list[str]:
    """Names of the terms that compare what every strategy shows; those of shared_private need its layers."""
    shown = []
    for name in names or options("adaptation"):
        if name != "function":
            node = composed([*COMMON, f"adaptation=[{name}]"])["adaptation"][name]
            if set(build(node).needs) <= {"partner"}:
                shown.append(name)
    return shown


def assembled(words: list[str]) -> tuple[Assembly, torch.optim.Optimizer]:
    config = composed(words)
    parts = assemble(config, prepare_corpus(config))
    parts.model.train()
    return parts, torch.optim.AdamW([p for p in parts.model.parameters() if p.requires_grad], lr=1e-3)


def step(parts: Assembly, term: Adaptation | None, optimizer: torch.optim.Optimizer, batch: object) -> float:
    begun = time.perf_counter()
    model = parts.model
    loss, views = model.recommendation_loss(batch)  # type: ignore[arg-type]
    if term is not None:
        loss = loss + term(views, target=model.target, progress=0.5)[0]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return time.perf_counter() - begun


def measure(case: str, names: list[str]) -> tuple[float, dict[str, float]]:
    words = [*CASES[case], *COMMON, f"adaptation=[{','.join(names)}]"]
    parts, optimizer = assembled(words)
    without = assembled([*words, "strategy=merged", "adaptation=[]"])  # it shows no term anything
    shown: dict[str, Adaptation | None] = {"": None, **dict(parts.model.adaptation.items())}  # type: ignore[dict-item]
    if "mmd" in names:
        shown["mmd, estimator=linear"] = build(composed(words)["adaptation"]["mmd"] | {"estimator": "linear"})
    seconds: dict[str, list[float]] = {name: [] for name in shown}
    for i, batch in enumerate(islice(parts.datamodule.train_dataloader(), STEPS[case] + 1)):
        for name, term in shown.items():
            spent = step(parts, term, optimizer, batch) if term else step(without[0], None, without[1], batch)
            if i:  # the first warms up
                seconds[name].append(spent)
    base = statistics.median(seconds.pop(""))
    return base, {name: statistics.median(values) / base - 1 for name, values in seconds.items()}


def main() -> None:
    warnings.filterwarnings("ignore")
    quiet()
    names = terms(sys.argv[1:])
    table = Table("term")
    columns = {}
    for case in CASES:
        base, columns[case] = measure(case, names)
        table.add_column(f"{case} ({1000 * base:.0f} ms)", justify="right")
    for name in columns["pairs"]:
        table.add_row(name, *(f"{100 * columns[case][name]:+.0f}%" for case in CASES))
    Console().print(table)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")


if __name__ == "__main__":
    main()
