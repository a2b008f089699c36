"""``crossrec encode``: fill the cache of text vectors ahead of runs."""

from __future__ import annotations

import time
import warnings
from typing import TYPE_CHECKING

from crossrec.errors import CrossrecError
from crossrec.runs.compressed import text_encoders

if TYPE_CHECKING:
    from crossrec.encoders.item_features import TextFeatures

USAGE = """usage: crossrec encode [--config-dir DIR ...] [KEY=VALUE ...]

Encodes the texts of a data set's items with a frozen model, into the cache that runs read. The words are those of
`crossrec train`; only data, item_encoder and paths count, and tuning=side_network, which reads the states of the
model's layers as well. A run does the same when it must. What was stopped goes on with the same line.

  crossrec encode data=food_kitchen item_encoder=text
  crossrec encode data=movielens item_encoder=text item_encoder.model=intfloat/e5-small 'item_encoder.prefix="query: "'
  crossrec encode data=amazon item_encoder=use 'item_encoder.template="{title}[ by {brand}][, {category}]"'"""

OPTIONS = ("cache_dir", "model", "fields", "template", "pooling", "prefix", "max_length", "batch_size")
"""Options of a text encoder that its features depend on."""


def main(arguments: list[str]) -> None:
    """Encode and print what came of it."""
    if any(a in ("-h", "--help") for a in arguments):
        print(USAGE)
        return
    from crossrec.commands.train import composed, config_dirs, override_words

    config = composed(override_words(arguments), config_dirs(arguments))
    nodes = list(text_encoders(config["item_encoder"]))
    if not nodes:
        raise CrossrecError(
            "this item encoder reads no text with a frozen model: choose item_encoder=text, use or id_text"
        )
    from crossrec.config import build
    from crossrec.encoders.item_features import item_features
    from crossrec.runs.config_check import check
    from crossrec.runs.corpus import prepare_corpus

    check(config, override_words(arguments))
    corpus = prepare_corpus(config)
    for node in nodes:
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".* texts were cut")  # the table says it
            found = item_features(corpus, **{key: node[key] for key in OPTIONS})
            tuning = build(node["tuning"])
            if not tuning.costly:
                tuning.tower(found.model, found.texts, found.cache)
        _print(node["model"], corpus.n_items, node["max_length"], found, time.perf_counter() - started)


def _print(model: str, items: int, limit: int | None, found: TextFeatures, seconds: float) -> None:
    from rich.console import Console
    from rich.table import Table

    n, width = found.vectors.shape
    speed = f"{found.encoded / found.seconds:,.0f} texts/s" if found.encoded else "nothing to encode"
    table = Table(show_header=False)
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    table.add_row("model", model)
    table.add_row("width", str(width))
    table.add_row("items with text", f"{n:,} of {items:,}")
    table.add_row("cut", f"{found.cut:,} of {n:,} at {limit} tokens" if limit else "none, texts are read whole")
    table.add_row("encoded now", f"{found.encoded:,} distinct texts ({speed})")
    console = Console()
    console.print(table)
    console.print(f"cache: {found.folder}", soft_wrap=True)
    console.print(f"ready in {seconds:.1f} s")
