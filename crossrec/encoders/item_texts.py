"""What a text model reads of an item."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from crossrec.data.schema import Corpus
from crossrec.errors import CrossrecError

TEXTS = ("title", "text")


def item_texts(corpus: Corpus, fields: Sequence[str]) -> pl.Series:
    """Text of every item, (n_items,) str, null where it has none.

    Args:
        corpus: gives the items.
        fields: of ``title`` and ``text``; the other one is read where these are missing.

    Raises:
        CrossrecError: an unknown field, or no item has text.
    """
    if not fields or any(name not in TEXTS for name in fields):
        raise CrossrecError(f"item_encoder.fields={list(fields)} must name title, text or both")
    there = {name: _clean(name) for name in TEXTS if name in corpus.items.columns}
    chosen = [there[name] for name in fields if name in there]
    others = [there[name] for name in TEXTS if name in there and name not in fields]
    if there:
        joined = [pl.concat_str(chosen, separator=" ", ignore_nulls=True).replace("", None)] if chosen else []
        texts = corpus.items.select(pl.coalesce(*joined, *others).alias("text"))["text"]
        if texts.null_count() < len(texts):
            return texts
    raise CrossrecError("no item of this data set has a title or text: choose item_encoder=id")


def _clean(name: str) -> pl.Expr:
    return pl.col(name).str.strip_chars().replace("", None)
