"""The evaluation of a LightningModule: its metrics, stage by stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from crossrec.data.batches import QueryBatch
from crossrec.data.schema import Domain
from crossrec.errors import CrossrecError
from crossrec.evaluation.collector import RankingMetrics
from crossrec.evaluation.ranking import inner_products
from crossrec.evaluation.summary import flatten, macro
from crossrec.strategies.domain_roles import DomainRoles


class Evaluated(DomainRoles, pl.LightningModule):
    """Rank the domains' catalogues in validation and test.

    A subclass gives :meth:`catalogue` and :meth:`users_for`, or :meth:`score`. One whose scores are no inner products
    says so by ``inner_product = False`` and gives :meth:`all_scores` and :meth:`pair_scores`.

    Args:
        domains: all domains of the corpus.
        target: index of the target domain; None when every domain is one.
        metrics: stage name (``valid``, ``test``) -> index of an evaluated domain -> its metric.
        monitor: name of the validation metric that selects the epoch, e.g. ``ndcg@10``: its mean over
            :meth:`select_domains`.
    """

    inner_product = True
    stops: Tensor
    sizes: Tensor

    def __init__(
        self,
        domains: Sequence[Domain],
        target: int | None,
        metrics: Mapping[str, Mapping[int, RankingMetrics]],
        monitor: str,
    ) -> None:
        super().__init__()
        self.domains = tuple(domains)
        # where each domain's items end, and how many they are, on the model's device
        self.register_buffer("stops", torch.tensor([d.stop for d in domains]), persistent=False)
        self.register_buffer("sizes", torch.tensor([d.n_items for d in domains]), persistent=False)
        self.target = target
        self.monitor = monitor
        self._selecting = frozenset(self.select_domains(domains, target))
        self.results: dict[str, float] = {}
        self._metrics = nn.ModuleDict(
            {stage: nn.ModuleDict({str(d): m for d, m in by.items()}) for stage, by in metrics.items()}
        )
        self._catalogue: dict[int, Tensor] = {}

    def domain_of(self, items: Tensor) -> Tensor:
        """Domain index of item ids of any shape."""
        return torch.bucketize(items, self.stops, right=True)

    def catalogue(self, domain: int) -> Tensor:
        """Vectors (n_items, f) of a domain's whole catalogue."""
        raise NotImplementedError

    def users_for(self, batch: QueryBatch) -> Tensor:
        """Vectors (q, f) of the queries' users, as seen in the queries' domain."""
        raise NotImplementedError

    def score(self, batch: QueryBatch) -> Tensor:
        """Scores (q, n_items of the domain) of the queries; the catalogue is encoded once an evaluation.

        In float32 whatever the precision: rounded to half of it, scores of thousands of items would tie.
        """
        if batch.domain not in self._catalogue:
            self._catalogue[batch.domain] = self.catalogue(batch.domain)
        users, items = self.users_for(batch), self._catalogue[batch.domain]
        with torch.autocast(users.device.type, enabled=False):
            return self.all_scores(users.float(), items.float())

    def all_scores(self, users: Tensor, items: Tensor) -> Tensor:
        """Scores (q, n) of every one of ``users`` (q, f) for every one of ``items`` (n, f): inner products."""
        return inner_products(users, items)

    def pair_scores(self, users: Tensor, items: Tensor) -> Tensor:
        """Scores (m,) of ``users`` (m, f) for ``items`` (m, f), row by row: inner products."""
        return (users * items).sum(-1)

    def _begin(self, stage: str) -> None:
        self._catalogue = {}
        for key, metric in self._metrics[stage].items():  # type: ignore[operator, union-attr]
            metric.reset()
            if metric.wants_vectors:
                self._catalogue[int(key)] = self.catalogue(int(key))
                metric.set_item_vectors(self._catalogue[int(key)])

    def _end(self, stage: str) -> dict[str, dict[str, float]]:
        """Domain name -> metric -> value."""
        computed = {self.domains[int(d)].name: m.compute() for d, m in self._metrics[stage].items()}  # type: ignore
        self._catalogue = {}
        return {name: {k: float(v) for k, v in values.items()} for name, values in computed.items()}

    def on_validation_epoch_start(self) -> None:
        """Start the validation metrics."""
        self._begin("valid")

    def validation_step(self, batch: QueryBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Rank the catalogue for the batch's users."""
        self._rank("valid", batch)

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics and the one that selects the epoch."""
        per_domain = self._end("valid")
        self.results = flatten("valid", per_domain)
        selecting = macro({name: values for name, values in per_domain.items() if name in self._selecting})
        if self.monitor not in selecting:
            raise CrossrecError(
                f"evaluation.monitor={self.monitor} has no value, because no validation query of "
                f"{', '.join(sorted(self._selecting))} counts for it; there are {', '.join(selecting)}"
            )
        # by Lightning too, for the progress bar
        self.log("valid/monitor", selecting[self.monitor], prog_bar=True, logger=False)
        self._publish({**self._ungrouped(), "valid/monitor": selecting[self.monitor]})

    def on_test_epoch_start(self) -> None:
        """Start the test metrics."""
        self._begin("test")

    def test_step(self, batch: QueryBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Rank the catalogue for the batch's users."""
        self._rank("test", batch)

    def on_test_epoch_end(self) -> None:
        """Keep the test metrics in :attr:`results`, and log them."""
        self.results = flatten("test", self._end("test"))
        self._publish(self._ungrouped())

    def _ungrouped(self) -> dict[str, float]:
        """Those of :attr:`results` that are of all users and items of a domain."""
        return {key: value for key, value in self.results.items() if key.count("/") == 2}

    def _publish(self, values: Mapping[str, float]) -> None:
        """Hand an epoch's values to callbacks and loggers, in one row, as ``log_dict`` would.

        For that Lightning makes a metric of every key and moves it, attribute by attribute, to the device where it is
        already: for the hundred keys of a validation this took longer than to rank a small catalogue.
        """
        trainer, rounded = self.trainer, torch.tensor(list(values.values()), device=self.device)
        trainer.callback_metrics.update(zip(values, rounded.unbind()))
        row = {**dict(zip(values, rounded.tolist())), "epoch": trainer.current_epoch}
        for logger in trainer.loggers:
            logger.log_metrics(row, step=trainer.fit_loop.epoch_loop._batches_that_stepped)  # as Lightning's own rows
            logger.save()

    def _rank(self, stage: str, batch: QueryBatch) -> None:
        try:
            self._metrics[stage][str(batch.domain)].update(self.score(batch), batch)  # type: ignore[operator, index]
        except CrossrecError as error:
            name = self.domains[batch.domain].name
            raise CrossrecError(f"{error} (stage {stage}, domain {name}, step {self.global_step})") from error

    def users_table(self, domain: int) -> Any:
        """Per-query test metrics of a domain as a polars frame."""
        return self._metrics["test"][str(domain)].users_table()  # type: ignore[operator, index]
