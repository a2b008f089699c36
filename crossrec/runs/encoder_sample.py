"""What text models are compared on: a sample of a corpus' items, its validation queries, and labels of behaviour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor
from torch.nn.functional import normalize

from crossrec.config import build
from crossrec.data.batches import PAD
from crossrec.data.datamodule import MultiDomainDataModule
from crossrec.data.randomness import numpy_generator
from crossrec.data.schema import Corpus
from crossrec.data.trained import train_rows
from crossrec.errors import CrossrecError
from crossrec.evaluation.coconsumption import coconsumption_factors
from crossrec.evaluation.metrics import ndcg
from crossrec.evaluation.ranking import rank
from crossrec.strategies.text_cosine import profiles

K = 10
"""Cutoff of the NDCG."""

GATHERED = 1 << 24
"""Most numbers of histories and of scores at once."""


@dataclass(frozen=True)
class DomainSample:
    """A domain's part of the sample; items are known by their places in it.

    Args:
        name: of the domain.
        start: place of its first item.
        stop: place after its last.
        history: (q, l) places of what the queries' users did before, in all domains, padded with PAD.
        relevant: (q, r) columns of the held-out items, counted from ``start``.
        seen: (q, s) columns that are no candidates.
        left_out: queries that the sample says nothing of.
        labelled: (m,) places of the items with labels.
        labels: (m, k) their factors.
    """

    name: str
    start: int
    stop: int
    history: Tensor
    relevant: Tensor
    seen: Tensor
    left_out: int
    labelled: Tensor
    labels: Tensor

    def ndcg(self, features: Tensor) -> npt.NDArray[np.float64]:
        """Training-free NDCG@10 (q,) of ``features`` (n, w) of the sample, as ``strategy=text_cosine`` scores."""
        items = normalize(features[self.start : self.stop], dim=-1)
        width = max(self.history.shape[1] * features.shape[1], len(items), 1)
        parts = [np.zeros(0)]
        for rows in torch.split(torch.arange(len(self.history)), max(GATHERED // width, 1)):
            users = normalize(profiles(features, self.history[rows]), dim=-1)
            ranks, _ = rank(users @ items.T, self.relevant[rows], seen=self.seen[rows])
            parts.append(ndcg(ranks, (K,))[:, 0].numpy())
        return np.concatenate(parts)


@dataclass(frozen=True)
class EncoderSample:
    """The items that every candidate reads.

    Args:
        items: (n,) global ids, ascending; all have a text.
        of: number of items with a text, of which they are a sample.
        domain: (n,) domain index.
        entity: (n,) entity.
        trained: (n,) bool, items with a training row.
        domains: those with validation queries.
    """

    items: npt.NDArray[np.int64]
    of: int
    domain: Tensor
    entity: Tensor
    trained: Tensor
    domains: Sequence[DomainSample]

    def chance(self) -> dict[str, float]:
        """Name of a domain -> mean NDCG@10 of scores that are all the same."""
        nothing = torch.zeros(len(self.items), 1)
        return {d.name: float(d.ndcg(nothing).mean()) for d in self.domains}


def draw_sample(
    config: Mapping[str, Any], corpus: Corpus, texts: Sequence[pl.Series], most: int | None
) -> EncoderSample:
    """Draw items and take the validation queries and training rows that are about them.

    Items are drawn without replacement from those that have a text for every candidate, with chance proportional to 1 +
    training rows: so few of them are most of what histories hold. A query counts if its held-out item and, unless it
    has no history at all, some of its history are among them; they are the catalogue that is ranked. Items without a
    text take no part. With all items drawn, and texts for all, values are those of ``strategy=text_cosine`` with
    ``target=all``. Test rows are not read.

    Args:
        config: of a run: its split, ``history_length``, ``evaluation.valid_queries`` and ``seed`` count.
        corpus: the corpus.
        texts: (n_items,) of each candidate, null where an item has none.
        most: number of items; None for all.

    Raises:
        CrossrecError: ``most`` is too small, or there is no validation row.
    """
    if most is not None and most < 100:
        raise CrossrecError(f"--texts is {most}: give at least 100, or all")
    seed = int(config["seed"])
    data = MultiDomainDataModule(
        corpus, build(config["split"]), uses_history=True, history_length=int(config["history_length"]),
        valid_queries=config["evaluation"]["valid_queries"], seed=seed,
    )  # fmt: skip
    counts = data.train_item_counts().numpy()
    known = np.flatnonzero(np.logical_and.reduce([series.is_not_null().to_numpy() for series in texts]))
    # the largest log weights plus Gumbel noise are a weighted sample (Efraimidis and Spirakis 2006)
    order = np.log1p(counts[known]) + numpy_generator(seed, "encoder sample").gumbel(size=len(known))
    items = np.sort(known[np.argsort(-order, kind="stable")[: len(known) if most is None else most]])
    place = torch.full((corpus.n_items + 1,), PAD)  # the last one is where PAD, which is -1, leads
    place[torch.from_numpy(items)] = torch.arange(len(items))
    return EncoderSample(
        items=items,
        of=len(known),
        domain=torch.from_numpy(corpus.items["domain"].to_numpy()[items].astype(np.int64)),
        entity=torch.from_numpy(corpus.items["entity"].to_numpy()[items].astype(np.int64)),
        trained=torch.from_numpy(counts[items] > 0),
        domains=[_domain(data, index, items, place) for index in data.valid_indices],
    )


def _domain(data: MultiDomainDataModule, index: int, items: npt.NDArray[np.int64], place: Tensor) -> DomainSample:
    domain = data.corpus.domains[index]
    start, stop = (int(at) for at in np.searchsorted(items, [domain.start, domain.stop]))
    batch = data.queries("valid", index).batch()
    history, relevant, seen = (place[ids] for ids in (batch.history, batch.relevant, batch.seen))
    told = (history != PAD).any(1) | (batch.history == PAD).all(1)
    kept = told & (relevant != PAD).any(1)
    if not bool(kept.any()):
        raise CrossrecError(
            f"none of the {len(kept)} validation queries of {domain.name!r} is about the {len(items)} sampled items: "
            "raise --texts"
        )
    columns = [torch.where(ids[kept] == PAD, PAD, ids[kept] - start) for ids in (relevant, seen)]
    labelled, labels = _labels(data, index, items[start:stop])
    return DomainSample(
        name=domain.name, start=start, stop=stop, history=history[kept], relevant=columns[0], seen=columns[1],
        left_out=int((~kept).sum()), labelled=labelled + start, labels=labels,
    )  # fmt: skip


def _labels(data: MultiDomainDataModule, index: int, items: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Places and factors of those of the domain's ``items`` that have a training row."""
    corpus, domain = data.corpus, data.corpus.domains[index]
    rows = corpus.interactions.filter(pl.Series(train_rows(corpus, data.split, [index])))
    factors = coconsumption_factors(
        rows["user"].to_numpy(), rows["item"].to_numpy() - domain.start, domain.n_items
    )[items - domain.start]  # fmt: skip
    labelled = np.flatnonzero(factors.any(1))
    return torch.from_numpy(labelled), torch.from_numpy(factors[labelled])
