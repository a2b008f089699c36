"""``crossrec prepare``: raw files to a prepared corpus, once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crossrec.data.schema import Corpus

USAGE = """usage: crossrec prepare data=SOURCE [data.source.KEY=VALUE ...] [data.filter.KEY=VALUE ...]

Reads, checks and filters raw files into a prepared corpus below paths.prepared; a run does the same when it needs to.

  crossrec prepare data=movielens
  crossrec prepare data=tabular 'data.source.domains={books: {interactions: books.csv}}'"""


def main(arguments: list[str]) -> None:
    """Prepare a corpus and print what is in it."""
    if any(a in ("-h", "--help") for a in arguments):
        print(USAGE)
        return
    from crossrec.commands.train import composed, config_dirs, override_words
    from crossrec.runs.corpus import prepare_corpus

    started = time.perf_counter()
    corpus = prepare_corpus(composed(override_words(arguments), config_dirs(arguments)))
    seconds = time.perf_counter() - started
    _print(corpus, seconds)


def _print(corpus: Corpus, seconds: float) -> None:
    import polars as pl
    from rich.console import Console
    from rich.table import Table

    counts = (
        corpus.interactions.select("user", domain=pl.Series(corpus.item_domain[corpus.interactions["item"]]))
        .group_by("domain")
        .agg(pl.len(), pl.col("user").n_unique())
        .sort("domain")
    )
    found = {d: (n, u) for d, n, u in counts.select("domain", "len", "user").iter_rows()}
    table = Table(title=f"{corpus.provenance.get('source', 'corpus')} {corpus.fingerprint[:12]}", title_justify="left")
    for name in ("domain", "users", "items", "interactions", "density", *corpus.modalities):
        table.add_column(name, justify="left" if name == "domain" else "right")
    for d in corpus.domains:
        rows, users = found.get(d.index, (0, 0))
        part = corpus.items[d.start : d.stop]
        have = [f"{1 - part[m].null_count() / max(d.n_items, 1):.0%}" for m in corpus.modalities]
        density = rows / max(users * d.n_items, 1)
        table.add_row(d.name, f"{users:,}", f"{d.n_items:,}", f"{rows:,}", f"{density:.3%}", *have)
    console = Console()
    console.print(table)
    for i, a in enumerate(corpus.domains):
        for b in corpus.domains[i + 1 :]:
            console.print(f"users in both {a.name} and {b.name}: {len(corpus.overlap(a.name, b.name)):,}")
    for key in ("dropped", "filtered", "licence"):
        if corpus.provenance.get(key):
            console.print(f"{key}: {corpus.provenance[key]}", soft_wrap=True)
    console.print(f"ready in {seconds:.1f} s")
