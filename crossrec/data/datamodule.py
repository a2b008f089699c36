"""The LightningDataModule: from a corpus and a split to the batches of one run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from crossrec.data import leakage
from crossrec.data.domains import domain_indices, domains_with_rows
from crossrec.data.labels import check_labels
from crossrec.data.loading import BatchLoader, QueryLoader
from crossrec.data.protocol import QueryProtocol, Stage
from crossrec.data.queries import Behaviour, Queries
from crossrec.data.ragged import Ids
from crossrec.data.sampling import Proportional, Rows, Sampler
from crossrec.data.schema import Corpus
from crossrec.data.splits import TEST, TRAIN, VALID, Split, Splitter, report
from crossrec.data.trained import train_counts, train_rows
from crossrec.data.training import TrainingRows, training_rows
from crossrec.errors import CrossrecError

SCORES = 64_000_000
"""Most scores (users x catalogue) of one evaluation batch."""


class MultiDomainDataModule(pl.LightningDataModule):
    """Training batches, validation and test queries of several domains.

    Args:
        corpus: the corpus.
        split: labels its interactions; checked for leakage on every run.
        batch: kind of the training batches.
        n_negatives: sampled negatives of a row (of a target of a sequence).
        shared_negatives: draw them once for each domain instead of for each row.
        negatives: distribution of the negatives.
        sampler: says which rows make which batch; :class:`~crossrec.data.sampling.Proportional` by default.
        batch_size: rows of a batch over all processes. Pointwise, negatives count as rows (as RecBole counts them);
            for sequences a row is a window.
        train_domains: names of the domains whose training rows make histories and batches; None for all.
        eval_domains: names of the domains to test; None for all. Those without a test row are left out.
        valid_domains: names of the domains to validate; None for ``eval_domains``. Histories of their queries, as of
            training batches, are of ``train_domains``; those of the test are of ``eval_domains`` too.
        history_length: most recent events of a history, and most inputs of a training window.
        uses_history: queries carry histories.
        query_batch_size: most queries of an evaluation batch; fewer where the catalogue is large.
        n_candidates: sampled candidates of a query; 0 ranks the whole catalogue.
        candidate_sampling: distribution of the candidates.
        valid_queries: validate on a random sample of this many queries of each domain; None for all.
        seed: of everything random here.

    Raises:
        CrossrecError: an unknown domain or option, or a domain without training rows.

    Attributes:
        train_indices: indices of the domains that train.
        read_indices: of those and of the tested ones: what is read in the test and to recommend.
    """

    allow_zero_length_dataloader_with_multiple_devices = True

    def __init__(
        self,
        corpus: Corpus,
        split: Splitter,
        *,
        batch: Literal["pointwise", "pairwise", "sequence"] = "pairwise",
        n_negatives: int = 1,
        shared_negatives: bool = False,
        negatives: Literal["uniform", "popularity"] = "uniform",
        sampler: Sampler | None = None,
        batch_size: int = 2048,
        train_domains: Sequence[str] | None = None,
        eval_domains: Sequence[str] | None = None,
        valid_domains: Sequence[str] | None = None,
        history_length: int = 50,
        uses_history: bool = False,
        query_batch_size: int | None = 1024,
        n_candidates: int = 0,
        candidate_sampling: Literal["uniform", "popularity"] = "uniform",
        valid_queries: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        _one_of("batch", batch, ("pointwise", "pairwise", "sequence"))
        _one_of("negatives", negatives, ("uniform", "popularity"))
        _one_of("candidate_sampling", candidate_sampling, ("uniform", "popularity"))
        for name, value, least in (
            ("n_negatives", n_negatives, 0),
            ("batch_size", batch_size, 1),
            ("history_length", history_length, 1),
            ("query_batch_size", query_batch_size, 1),
            ("n_candidates", n_candidates, 0),
            ("valid_queries", valid_queries, 1),
        ):
            if value is not None and value < least:
                raise CrossrecError(f"{name} is {value}: give at least {least}")
        if batch == "pointwise" and shared_negatives:
            raise CrossrecError("a pointwise objective labels its own negatives: choose one without shared negatives")
        self.corpus, self.uses_history, self.history_length = corpus, uses_history, history_length
        every = range(len(corpus.domains))
        self.train_indices = domain_indices(corpus, train_domains, every)
        self._tested = domain_indices(corpus, eval_domains, every)
        self._validated = domain_indices(corpus, valid_domains, self._tested)
        self.read_indices = sorted({*self.train_indices, *self._tested})
        self._splitter, self._batch, self._negatives = split, batch, negatives
        self._n_negatives, self._shared, self._sampler = n_negatives, shared_negatives, sampler or Proportional()
        self._batch_size, self._query_batch_size = batch_size, query_batch_size or 1024
        self._n_candidates, self._candidate_sampling = n_candidates, candidate_sampling
        self._valid_queries, self._seed = valid_queries, seed
        self._split: Split | None = None
        self._source: TrainingRows | None = None
        self._protocol: QueryProtocol | None = None
        self._known: Behaviour | None = None

    # ---- what the run is made of --------------------------------------------------------------------------------

    def setup(self, stage: str | None = None) -> None:
        """Split, check for leakage and lay the training rows out, once."""
        if self._split is None:
            made = self._splitter(self.corpus)
            leakage.check(self.corpus, made)
            check_labels(made, self._batch, self.uses_history)
            self._split = made
            self._protocol = QueryProtocol(
                self.corpus,
                made,
                {"valid": self.train_indices, "test": self.read_indices},
                self.history_length if self.uses_history else 0,
                n_candidates=self._n_candidates,
                candidate_sampling=self._candidate_sampling,
                counts=self.item_popularity().numpy(),
                valid_queries=self._valid_queries,
                seed=self._seed,
            )
        if stage in ("fit", None) and self._source is None:
            self._source = training_rows(
                self.corpus,
                self.split.label == TRAIN,
                self.train_indices,
                kind=self._batch,
                negatives=self._negatives,
                n_negatives=self._n_negatives,
                shared=self._shared,
                length=self.history_length,
                liked=self.split.positive,
            )

    @property
    def split(self) -> Split:
        """The checked split."""
        if self._split is None:
            self.setup("validate")
        assert self._split is not None
        return self._split

    @cached_property
    def eval_indices(self) -> list[int]:
        """Indices of the tested domains, in the order of the test loaders."""
        return domains_with_rows(self.corpus, self.split, self._tested, TEST)

    @cached_property
    def valid_indices(self) -> list[int]:
        """Indices of the validated domains, in the order of the validation loaders."""
        return domains_with_rows(self.corpus, self.split, self._validated, VALID)

    def train_item_counts(self) -> Tensor:
        """Positive training rows of every item, (n_items,) int64."""
        return torch.from_numpy(train_counts(self.corpus, self.split, self.train_indices, positive=True))

    def item_popularity(self) -> Tensor:
        """As those counts, in all of :attr:`read_indices`, (n_items,): what an evaluation knows as popular."""
        return torch.from_numpy(train_counts(self.corpus, self.split, self.read_indices, positive=True))

    def train_item_mask(self) -> Tensor:
        """Which items have a training row, whatever its label, (n_items,) bool."""
        return torch.from_numpy(train_counts(self.corpus, self.split, self.train_indices) > 0)

    def split_report(self) -> dict[str, Any]:
        """Rows of every label, users and items of every domain: plain values for the run's record."""
        return report(self.corpus, self.split)

    # ---- loaders ------------------------------------------------------------------------------------------------

    def train_dataloader(self) -> BatchLoader:
        """Return this process's training batches."""
        self.setup("fit")
        assert self._source is not None
        names = [d.name for d in self.corpus.domains]
        rows = Rows(self._source.domains, names, self.train_indices, self._source.lengths)
        size = self._batch_size
        if self._batch == "pointwise":
            size = max(size // (1 + self._n_negatives), 1)
        rank, world = self._process()
        return BatchLoader(
            self._source, self._sampler, rows, batch_size=size, seed=self._seed, rank=rank, world_size=world
        )

    def val_dataloader(self) -> list[QueryLoader]:
        """Return this process's validation queries, a loader for each of :attr:`valid_indices`."""
        return [self._query_loader("valid", d) for d in self.valid_indices]

    def test_dataloader(self) -> list[QueryLoader]:
        """Return this process's test queries, a loader for each of :attr:`eval_indices`."""
        return [self._query_loader("test", d) for d in self.eval_indices]

    def queries(self, stage: Stage, domain: int) -> Queries:
        """All queries of a stage in the domain with index ``domain``, for all processes together."""
        self.setup("validate")
        assert self._protocol is not None
        return self._protocol.queries(stage, domain)

    def candidates(self, stage: Stage) -> dict[str, Tensor]:
        """Sampled candidates of a stage: ``<domain>/users`` (q,) and ``<domain>/candidates`` (q, c); empty without."""
        self.setup("validate")
        assert self._protocol is not None
        return self._protocol.candidates(stage, self.valid_indices if stage == "valid" else self.eval_indices)

    def check_candidates(self, *stages: Stage) -> None:
        """Check, before these stages are ranked, that there are as many candidates as are asked for.

        Raises:
            CrossrecError: no query of a domain has so many; see :meth:`QueryProtocol.check`.
        """
        self.setup("validate")
        assert self._protocol is not None
        for stage in stages:
            self._protocol.check(stage, self.valid_indices if stage == "valid" else self.eval_indices)

    def short_of_candidates(self) -> dict[str, int]:
        """``<stage>/<domain>`` -> its queries with fewer candidates than asked; see :class:`QueryProtocol`."""
        return {} if self._protocol is None else dict(self._protocol.short)

    def history_of(self, users: Tensor, *, trained: bool = False) -> Tensor:
        """What ``users`` (q,) did up to now in :attr:`read_indices`, (q, l), oldest first, padded with PAD.

        Args:
            users: global user ids.
            trained: only rows that train, in place of all rows.

        Returns:
            Global item ids; l is 0 where histories are not used.
        """
        if not self.uses_history:
            return torch.empty(len(users), 0, dtype=torch.long)
        return self._behaviour().history(users, self._trained if trained else None)

    def items_of(self, users: Tensor, domain: int) -> Tensor:
        """Items of the domain with index ``domain`` that ``users`` (q,) have, (q, s), padded with PAD."""
        return self._behaviour().items(users, domain)

    # ---- checkpoints --------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must have in common; the position in the epoch is the loader's own state."""
        trained = int((self.split.label == TRAIN).sum())
        return {"split": self.split.name, "train_rows": trained, "seed": self._seed, "batch": self._batch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that the checkpoint is of the same data.

        Raises:
            CrossrecError: names what differs.
        """
        for name, value in self.state_dict().items():
            if state_dict.get(name) != value:
                raise CrossrecError(
                    f"the checkpoint was saved with {name}={state_dict.get(name)} but this run has {value}"
                )

    # ---- details ------------------------------------------------------------------------------------------------

    def _process(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def _query_loader(self, stage: Stage, domain: int) -> QueryLoader:
        size = min(self._query_batch_size, SCORES // max(self.corpus.domains[domain].n_items, 1))
        return QueryLoader(self.queries(stage, domain), max(size, 1), *self._process())

    @cached_property
    def _trained(self) -> Ids:
        return np.flatnonzero(train_rows(self.corpus, self.split, self.train_indices)).astype(np.int64)

    def _behaviour(self) -> Behaviour:
        if self._known is None:
            self._known = Behaviour(self.corpus, self.read_indices, self.history_length)
        return self._known


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise CrossrecError(f"{name} is {value!r}: choose {', '.join(allowed)}")
