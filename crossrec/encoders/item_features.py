"""Frozen vectors of a corpus' texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from crossrec.data.schema import Corpus
from crossrec.encoders.feature_cache import FeatureCache, Features
from crossrec.encoders.item_texts import item_texts
from crossrec.encoders.pooling import Pooling
from crossrec.encoders.projection import read_features
from crossrec.encoders.text_model import TextModel, open_text_model


@dataclass(frozen=True)
class TextFeatures(Features):
    """Vectors of the n items, or users, that have a text.

    Attributes:
        known: (n_items,) bool, which ones those are.
        texts: of those.
        model: what encoded them.
        cache: what holds them.
        folder: of the cache, of this model's vectors.
    """

    known: npt.NDArray[np.bool_]
    texts: Sequence[str]
    model: TextModel
    cache: FeatureCache
    folder: Path


def item_features(
    corpus: Corpus,
    *,
    cache_dir: str | Path,
    model: str,
    fields: Sequence[str] = ("title",),
    template: str | None = None,
    pooling: Pooling | None = "mean",
    prefix: str = "",
    max_length: int | None = 64,
    batch_size: int = 64,
) -> TextFeatures:
    """Take the items' vectors from the cache, encoding the texts that are not there yet.

    Args:
        corpus: gives the texts.
        cache_dir: folder of the :class:`~crossrec.encoders.feature_cache.FeatureCache`.
        model: see :func:`~crossrec.encoders.text_model.open_text_model`, as ``pooling``, ``prefix``, ``max_length``.
        fields: see :func:`~crossrec.encoders.item_texts.item_texts`, as ``template``.
        template: what a text is made of.
        pooling: of a text's tokens.
        prefix: put before every text.
        max_length: in tokens.
        batch_size: texts of one batch of the model.

    Raises:
        CrossrecError: no item has text, an option has none of its values, or the model is not there.
    """
    return text_features(
        item_texts(corpus, fields, template), cache_dir=cache_dir, model=model, pooling=pooling, prefix=prefix,
        max_length=max_length, batch_size=batch_size,
    )  # fmt: skip


def text_features(
    texts: pl.Series,
    *,
    cache_dir: str | Path,
    model: str,
    pooling: Pooling | None,
    prefix: str,
    max_length: int | None,
    batch_size: int,
) -> TextFeatures:
    """Take the vectors of ``texts`` (n,), null where there is none, from the cache; as :func:`item_features`."""
    cache, encoder = FeatureCache(cache_dir, batch_size), open_text_model(model, pooling, prefix, max_length)
    known = texts.drop_nulls().to_list()
    found = read_features(cache, known, encoder)
    return TextFeatures(
        **vars(found), known=texts.is_not_null().to_numpy(), texts=known, model=encoder, cache=cache,
        folder=cache.folder(encoder),
    )  # fmt: skip
