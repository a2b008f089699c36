"""Measures of text models before any training: size, speed, and what their vectors are like on a corpus."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from crossrec.config import target_of
from crossrec.data.randomness import numpy_generator, torch_generator
from crossrec.data.schema import Corpus
from crossrec.durations import span
from crossrec.encoders.domain_whitening import DomainWhitening
from crossrec.encoders.feature_cache import FeatureCache
from crossrec.encoders.item_texts import item_texts
from crossrec.encoders.model_files import ModelSize
from crossrec.encoders.projection import read_features
from crossrec.encoders.text_model import TextModel, text_model_of
from crossrec.encoders.whitening import Kind, Whitening
from crossrec.errors import CrossrecError
from crossrec.evaluation.anisotropy import mean_cosine
from crossrec.evaluation.gap import LEAST, Gap, domain_gap
from crossrec.evaluation.logme import logme
from crossrec.evaluation.significance import bootstrap_interval
from crossrec.runs.candidates import Candidate
from crossrec.runs.corpus import prepare_corpus
from crossrec.runs.encoder_sample import EncoderSample, draw_sample

TIMED_TEXTS = 1024
"""Texts that a model is timed on, or fewer: batches are begun for :data:`TIMED_SECONDS`."""

TIMED_SECONDS = 5.0

GAP_ROWS = 1000
"""Items of each domain that are compared at most."""

Pair = tuple[str, str]


@dataclass(frozen=True)
class Variant:
    """A model's vectors under one whitening.

    Args:
        whitening: its kind.
        width: of the vectors.
        anisotropy: mean cosine of two items.
        gaps: pair of domains -> their distances; without pairs of which one shows too few items.
        ndcg: domain -> training-free NDCG@10 (q,) of its validation queries.
        logme: domain -> LogME; without domains that show too few items.
    """

    whitening: Kind
    width: int
    anisotropy: float
    gaps: Mapping[Pair, Gap]
    ndcg: Mapping[str, npt.NDArray[np.float64]]
    logme: Mapping[str, float]

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """Domain -> 95% bootstrap interval of its mean NDCG@10."""
        return {name: bootstrap_interval(values) for name, values in self.ndcg.items()}


@dataclass(frozen=True)
class Measured:
    """A candidate.

    Args:
        candidate: what it is.
        size: of the model.
        width: of its vectors.
        rate: texts a second, on this machine.
        timed: texts that rests on.
        cut: share of the sample's texts that are longer than the model reads.
        limit: tokens it reads; None for all.
        variants: one for each whitening.
    """

    candidate: Candidate
    size: ModelSize
    width: int
    rate: float
    timed: int
    cut: float
    limit: int | None
    variants: Sequence[Variant]


@dataclass(frozen=True)
class Absent:
    """A candidate that could not be read, and why."""

    candidate: Candidate
    reason: str


@dataclass(frozen=True)
class Comparison:
    """Everything that was found.

    Args:
        source: name of the corpus.
        sample: what was read.
        target: names of the domains to recommend in.
        chance: domain -> NDCG@10 of scores that are all the same.
        found: the candidates in the order they were given.
    """

    source: str
    sample: EncoderSample
    target: Sequence[str]
    chance: Mapping[str, float]
    found: Sequence[Measured | Absent]

    @property
    def measured(self) -> list[Measured]:
        """Candidates that could be read."""
        return [made for made in self.found if isinstance(made, Measured)]


def compare_encoders(
    candidates: Sequence[Candidate],
    common: Sequence[str] = (),
    config_dirs: Sequence[Path] = (),
    *,
    whitenings: Sequence[Kind] = ("none", "centre", "pca"),
    texts: int | None = 2000,
    tell: Callable[[str], None] = print,
) -> Comparison:
    """Measure text models on the same items of a corpus.

    Args:
        candidates: the models.
        common: overrides for all of them.
        config_dirs: folders of configs.
        whitenings: of the vectors; fitted on the sampled items that have a training row.
        texts: number of items, see :func:`~crossrec.runs.encoder_sample.draw_sample`; None for all.
        tell: is told how long a model will take, before it begins.

    Raises:
        CrossrecError: a config is wrong, or there is nothing to compare on. A model that cannot be read is
            :class:`Absent` instead.
    """
    configs = [candidate.config(common, config_dirs) for candidate in candidates]
    nodes = [config["item_encoder"] for config in configs]
    corpus = prepare_corpus(configs[0])
    every = [item_texts(corpus, node["fields"], node["template"]) for node in nodes]
    sample = draw_sample(configs[0], corpus, every, texts)
    target = target_of(configs[0])
    names = [d.name for d in sample.domains]
    if target is not None and target not in names:
        raise CrossrecError(f"target={target} has no validation query: choose {', '.join(names)} or all")
    found: list[Measured | Absent] = []
    for candidate, node, series in zip(candidates, nodes, every):
        try:
            found.append(
                _measure(candidate, node, series.gather(sample.items).to_list(), sample, corpus, whitenings, tell)
            )
        except CrossrecError as error:
            found.append(Absent(candidate, str(error)))
    return Comparison(
        source=str(corpus.provenance.get("source", "corpus")),
        sample=sample,
        target=names if target is None else [target],
        chance=sample.chance(),
        found=found,
    )


def _measure(
    candidate: Candidate,
    node: Mapping[str, Any],
    texts: Sequence[str],
    sample: EncoderSample,
    corpus: Corpus,
    whitenings: Sequence[Kind],
    tell: Callable[[str], None],
) -> Measured:
    model = text_model_of(node)
    rate, timed = texts_per_second(model, texts, node["batch_size"])
    estimate = f"{candidate.name}: {rate:,.0f} texts/s; {len(texts):,} take {span(len(texts) / rate)} where not cached"
    tell(estimate + ("" if sample.of == len(texts) else f", all {sample.of:,} {span(sample.of / rate)}"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".* texts were cut")  # the table says it
        read = read_features(FeatureCache(node["cache_dir"], node["batch_size"]), texts, model)
    raw = torch.from_numpy(read.vectors)
    return Measured(
        candidate=candidate,
        size=model.size,
        width=raw.shape[1],
        rate=rate,
        timed=timed,
        cut=read.cut / len(texts),
        limit=model.max_length,
        variants=[_variant(kind, raw, node, sample, corpus) for kind in whitenings],
    )


def _variant(kind: Kind, raw: Tensor, node: Mapping[str, Any], sample: EncoderSample, corpus: Corpus) -> Variant:
    dim = node["whitening_dim"] if kind == "pca" else None
    vectors = whitened(kind, raw, sample, corpus, None if dim is None else min(dim, raw.shape[1]), node["per_domain"])
    return Variant(
        whitening=kind,
        width=vectors.shape[1],
        anisotropy=mean_cosine(vectors),
        gaps=_gaps(vectors, sample, corpus),
        ndcg={d.name: d.ndcg(vectors) for d in sample.domains},
        logme={d.name: logme(vectors[d.labelled], d.labels) for d in sample.domains if len(d.labelled) >= LEAST},
    )


def whitened(
    kind: Kind, raw: Tensor, sample: EncoderSample, corpus: Corpus, dim: int | None, per_domain: bool
) -> Tensor:
    """Whiten vectors (n, w) of the sample as a text encoder does: fitted on the items that have a training row."""
    rows = sample.trained
    each = [d.name for d in corpus.domains] if per_domain and kind != "none" else None
    width = raw.shape[1]
    whitening = Whitening(width, kind, dim) if each is None else DomainWhitening(each, width, kind, dim)
    made: Tensor = whitening.fit(raw[rows], sample.domain[rows])(raw, sample.domain)
    return made


def texts_per_second(model: TextModel, texts: Sequence[str], batch_size: int) -> tuple[float, int]:
    """Time a model on some of the texts, in batches of texts of like length, as the feature cache makes them.

    Loading is not timed. Batches come in a random order and none begins after :data:`TIMED_SECONDS`, so that the ones
    that are timed are long and short.

    Returns:
        Texts a second, and how many texts that rests on.
    """
    rng = numpy_generator(0, "timed texts")
    chosen = [texts[at] for at in rng.permutation(len(texts))[:TIMED_TEXTS]]
    lengths = model.lengths(chosen)
    model.encode(chosen[:1])
    order = np.argsort(-lengths, kind="stable")
    batches = [order[first : first + batch_size] for first in range(0, len(order), batch_size)]
    started, done = time.perf_counter(), 0
    for at in rng.permutation(len(batches)):
        model.encode([chosen[row] for row in batches[at]])
        done += len(batches[at])
        if time.perf_counter() - started > TIMED_SECONDS:
            break
    return done / (time.perf_counter() - started), done


def _gaps(vectors: Tensor, sample: EncoderSample, corpus: Corpus) -> dict[Pair, Gap]:
    order = torch.randperm(len(vectors), generator=torch_generator(0, "encoder gap"))
    shown = {}
    for d in corpus.domains:
        rows = order[sample.domain[order] == d.index][:GAP_ROWS]
        if len(torch.unique(sample.entity[rows])) >= LEAST:
            shown[d.name] = rows
    return {
        (a, b): domain_gap(vectors[shown[a]], vectors[shown[b]], sample.entity[shown[a]], sample.entity[shown[b]])
        for a, b in combinations(shown, 2)
    }
