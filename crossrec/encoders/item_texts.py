"""What a text model reads of an item."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from crossrec.data.schema import TEXTS, Corpus
from crossrec.encoders.template import Template
from crossrec.errors import CrossrecError

ALWAYS = ("title", "text")
"""Fields that are read where all that was asked for is missing."""


def item_texts(corpus: Corpus, fields: Sequence[str] = ("title",), template: str | None = None) -> pl.Series:
    """Text of every item, (n_items,) str, null where it has none.

    Args:
        corpus: gives the items.
        fields: of ``title``, ``brand``, ``category``, ``description`` and ``text``, joined by a space; an item that has
            none of them is read by its title, or else its text.
        template: see :class:`~crossrec.encoders.template.Template`; None for none. What it does not fill is read by
            ``fields``.

    Raises:
        CrossrecError: an unknown field, a template that fits no item of the corpus, or no item has text.
    """
    if not fields or any(name not in TEXTS for name in fields):
        raise CrossrecError(f"item_encoder.fields={list(fields)} must name some of {', '.join(TEXTS)}")
    there = {name: _clean(name) for name in TEXTS if name in corpus.items.columns}
    ways: list[pl.Expr] = [] if template is None else [_filled(Template(template), there, corpus)]
    if chosen := [there[name] for name in fields if name in there]:
        ways.append(pl.concat_str(chosen, separator=" ", ignore_nulls=True).replace("", None))
    ways += [there[name] for name in ALWAYS if name in there and name not in fields]
    if ways:
        texts = corpus.items.select(pl.coalesce(ways).alias("text"))["text"]
        if texts.null_count() < len(texts):
            return texts
    raise CrossrecError("no item of this data set has a title or text: choose item_encoder=id")


def _filled(template: Template, there: dict[str, pl.Expr], corpus: Corpus) -> pl.Expr:
    filled = template.fill(there)
    if corpus.items.select(filled.is_null().all()).item():
        raise CrossrecError(
            f"item_encoder.template={template.text!r} fits no item: this data set's items have "
            + (", ".join(name for name in there if not corpus.items[name].is_null().all()) or "no words at all")
            + "; put [brackets] around what may be missing"
        )
    return filled


def _clean(name: str) -> pl.Expr:
    return pl.col(name).str.strip_chars().replace("", None)
