"""The base LightningModule: towers, objective, adaptation terms, evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from crossrec.adaptation.base import Adaptation, DomainViews
from crossrec.adaptation.gather import world_size
from crossrec.data.batches import PAD, Batch, PairwiseBatch, PointwiseBatch, QueryBatch, SequenceBatch
from crossrec.data.schema import Domain
from crossrec.encoders.base import ItemEncoder, UserEncoder
from crossrec.errors import CrossrecError
from crossrec.evaluation.collector import RankingMetrics
from crossrec.evaluation.summary import flatten
from crossrec.objectives.base import Objective
from crossrec.strategies.epoch_means import EpochMeans
from crossrec.strategies.scoring import last_state, score_catalogue, score_pairs, score_shared


class Strategy(pl.LightningModule):
    """Score user i for item j by the inner product <U_i, V_j> and train on one or more domains.

    A subclass says which domains train (:meth:`train_domains`) and may change :meth:`adaptation_views` or
    :meth:`training_step`. Random numbers of a training step (dropout) come from a generator state derived from
    ``(seed, epoch, batch, rank)``, so a resumed run draws what the uninterrupted one would have drawn.

    Args:
        item_encoder: ids -> V, (..., f).
        user_encoder: user ids or behaviour -> U, (..., f).
        objective: the recommendation loss.
        adaptation: terms by name; each is added to the loss with its own weight.
        optimizer: called with the parameters.
        scheduler: called with the optimizer; stepped once an epoch. None keeps the learning rate.
        domains: all domains of the corpus.
        target: index of the domain that adaptation adapts to; None when every domain is a target.
        metrics: stage name (``valid``, ``test``) -> index of an evaluated domain -> its metric.
        monitor: name of the validation metric that selects the epoch, e.g. ``ndcg@10``.
        membership: (n_users, n_domains) bool, who is in which domain.
        domain_weights: domain name -> weight of its rows in the recommendation loss (default 1 each).
        seed: of the run.
    """

    trains = True
    membership: Tensor

    def __init__(
        self,
        *,
        item_encoder: ItemEncoder,
        user_encoder: UserEncoder,
        objective: Objective,
        optimizer: Callable[..., torch.optim.Optimizer],
        domains: Sequence[Domain],
        target: int | None,
        metrics: Mapping[str, Mapping[int, RankingMetrics]],
        monitor: str,
        membership: Tensor,
        adaptation: Mapping[str, Adaptation] | None = None,
        scheduler: Callable[..., Any] | None = None,
        domain_weights: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.item_encoder = item_encoder
        self.user_encoder = user_encoder
        self.objective = objective
        self.adaptation = nn.ModuleDict(dict(adaptation or {}))
        self.domains = tuple(domains)
        self.target = target
        self.monitor = monitor
        self.run_seed = seed
        self.register_buffer("membership", membership, persistent=False)
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._metrics = nn.ModuleDict(
            {stage: nn.ModuleDict({str(d): m for d, m in by.items()}) for stage, by in metrics.items()}
        )
        self._domain_weights = self._weights_of(domain_weights)
        self._catalogue: dict[int, Tensor] = {}
        self._means = EpochMeans()
        self._total_steps = 0.0
        self.results: dict[str, float] = {}

    @classmethod
    def train_domains(cls, domains: Sequence[Domain], target: int | None) -> list[str]:
        """Names of the domains whose training rows are used; by default all."""
        return [d.name for d in domains]

    def _weights_of(self, weights: Mapping[str, float] | None) -> list[float] | None:
        if not weights:
            return None
        names = [d.name for d in self.domains]
        for name in weights:
            if name not in names:
                raise CrossrecError(f"strategy.domain_weights names {name!r}, but the domains are {', '.join(names)}")
        return [float(weights.get(name, 1.0)) for name in names]

    # ---- towers -------------------------------------------------------------------------------------------------

    def encode_users(self, users: Tensor, history: Tensor) -> Tensor:
        """Encode users (q,) with their histories (q, l), PAD-padded, to (q, f); no history gives the zero vector."""
        if not self.user_encoder.uses_history:
            return cast(Tensor, self.user_encoder(users))
        if history.shape[1] == 0:
            return torch.zeros(len(users), self.item_encoder.dim, device=self.device)
        states = self.history_states(history)
        return last_state(states, history != PAD)

    def history_states(self, history: Tensor) -> Tensor:
        """User state after each event of ``history`` (b, l) -> (b, l, f)."""
        mask = history != PAD
        items = history.clamp_min(0)
        return self.user_encoder.states(self.item_encoder(items), self.domain_of(items), mask)

    def domain_of(self, items: Tensor) -> Tensor:
        """Domain index of item ids of any shape."""
        stops = torch.tensor([d.stop for d in self.domains], device=items.device)
        return torch.bucketize(items, stops, right=True)

    def catalogue(self, domain: int) -> Tensor:
        """Vectors (n_items, f) of a domain's whole catalogue."""
        d = self.domains[domain]
        return cast(Tensor, self.item_encoder(torch.arange(d.start, d.stop, device=self.device)))

    def score(self, batch: QueryBatch) -> Tensor:
        """Scores (q, n_items of the domain) of the queries; the catalogue is encoded once an evaluation."""
        if batch.domain not in self._catalogue:
            self._catalogue[batch.domain] = self.catalogue(batch.domain)
        return self.encode_users(batch.users, batch.history) @ self._catalogue[batch.domain].T

    # ---- training -----------------------------------------------------------------------------------------------

    def recommendation_loss(self, batch: Batch) -> tuple[Tensor, dict[str, DomainViews]]:
        """Loss of the objective on a batch, and the vectors it was computed from for the adaptation terms."""
        if isinstance(batch, PointwiseBatch):
            users, items = self.user_encoder(batch.users), self.item_encoder(batch.items)
            weight = self._row_weights(batch.domains)
            loss = self.objective.labelled((users * items).sum(-1), batch.labels, weight=weight)
            ids, positives, domains = batch.users, batch.items, batch.domains
            views = self.adaptation_views(users, ids, items, positives, domains) if self.adaptation else {}
            return self._share(loss, weight, len(ids)), views
        if isinstance(batch, PairwiseBatch):
            users, ids, domains = self.user_encoder(batch.users), batch.users, batch.domains
            positives, negatives = batch.positives, batch.negatives
        elif isinstance(batch, SequenceBatch):
            rows = batch.targets != PAD
            users = self.history_states(batch.history)[rows]
            ids = batch.users.unsqueeze(1).expand_as(batch.targets)[rows]
            positives, domains = batch.targets[rows], batch.domains[rows]
            negatives = batch.negatives if self.objective.shared else batch.negatives[rows]
        else:
            raise TypeError(f"no training step for {type(batch).__name__}")
        weight = self._row_weights(domains)
        items = self.item_encoder(positives) if self.adaptation or not self.objective.full else users.new_zeros(0)
        if self.objective.full:
            loss = score_catalogue(self, users, positives, domains, weight)
        elif self.objective.shared:
            loss = score_shared(self, users, items, positives, domains, negatives, weight)
        else:
            loss = score_pairs(self, users, items, domains, negatives, weight)
        views = self.adaptation_views(users, ids, items, positives, domains) if self.adaptation else {}
        return self._share(loss, weight, len(ids)), views

    def _share(self, loss: Tensor, weight: Tensor | None, rows: int) -> Tensor:
        """Weigh this process's mean by its rows: the mean over processes is then the mean over the global batch."""
        if world_size() == 1:
            return loss
        mass = loss.new_tensor(float(rows)) if weight is None else weight.sum()
        mean = cast(Tensor, self.trainer.strategy.reduce(mass.clone(), reduce_op="mean"))
        return loss * (mass / mean.clamp_min(1e-12))

    def _row_weights(self, domains: Tensor) -> Tensor | None:
        if self._domain_weights is None:
            return None
        return torch.tensor(self._domain_weights, device=domains.device)[domains]

    def adaptation_views(
        self, users: Tensor, user_ids: Tensor, items: Tensor, item_ids: Tensor, domains: Tensor
    ) -> dict[str, DomainViews]:
        """Vectors the adaptation terms compare: users as seen in each row's domain, and the rows' items."""
        return {
            "users": DomainViews(vectors=users, domains=domains, ids=user_ids, membership=self.membership[user_ids]),
            "items": DomainViews(vectors=items, domains=domains, ids=item_ids),
        }

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Derive the step's random state from the seed, epoch, batch and rank (numbers hash alike everywhere)."""
        seed = hash((self.run_seed, self.current_epoch, batch_idx, self.global_rank)) % 2**63
        torch.default_generator.manual_seed(seed)  # torch.manual_seed walks the stack where CUDA sleeps: 0.5 ms a step
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Recommendation loss plus every adaptation term."""
        loss, views = self.recommendation_loss(batch)
        parts = {"recommendation": loss.detach()}
        if self.adaptation:
            progress = self.progress()
            for term in self.adaptation.values():
                value, entries = term(views, target=self.target, progress=progress)
                loss = loss + value
                parts.update(entries)
        parts["loss"] = loss.detach()
        self._means.add(parts)
        return loss

    def progress(self) -> float:
        """Share of the training budget that is spent, in [0, 1]."""
        return min(self.global_step / self._total_steps, 1.0) if 0 < self._total_steps < float("inf") else 0.0

    def on_train_start(self) -> None:
        """Take the training budget, in steps, once; asked before it resumes, Lightning loses its place in the epoch."""
        self._total_steps = float(self.trainer.estimated_stepping_batches)

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean of every part of the loss."""
        self.log_dict({f"train/{k}": v for k, v in self._means.take().items()}, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the epoch has summed up to now."""
        checkpoint["epoch_means"] = self._means.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the sums of the epoch that was broken off."""
        self._means.load_state_dict(checkpoint["epoch_means"])

    def configure_optimizers(self) -> Any:
        """Build the optimizer and the scheduler, stepped once an epoch."""
        optimizer = self._optimizer([p for p in self.parameters() if p.requires_grad])
        if self._scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self._scheduler(optimizer), "interval": "epoch"}}

    # ---- evaluation ---------------------------------------------------------------------------------------------

    def _begin(self, stage: str) -> None:
        self._catalogue = {}
        for key, metric in self._metrics[stage].items():  # type: ignore[operator, union-attr]
            metric.reset()
            if metric.wants_vectors:
                self._catalogue[int(key)] = self.catalogue(int(key))
                metric.set_item_vectors(self._catalogue[int(key)])

    def _end(self, stage: str) -> dict[str, float]:
        computed = {self.domains[int(d)].name: m.compute() for d, m in self._metrics[stage].items()}  # type: ignore
        self._catalogue = {}
        per_domain = {name: {k: float(v) for k, v in values.items()} for name, values in computed.items()}
        return flatten(stage, per_domain)

    def on_validation_epoch_start(self) -> None:
        """Start the validation metrics."""
        self._begin("valid")

    def validation_step(self, batch: QueryBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Rank the catalogue for the batch's users."""
        self._rank("valid", batch)

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics and the one that selects the epoch."""
        self.results = self._end("valid")
        chosen = self.domains[self.target].name if self.target is not None else "macro"
        key = f"valid/{chosen}/{self.monitor}"
        if key not in self.results:
            raise CrossrecError(
                f"evaluation.monitor={self.monitor} is not computed; there are " + ", ".join(self.results)
            )
        self.log_dict({k: v for k, v in self.results.items() if k.count("/") == 2}, rank_zero_only=False)
        self.log("valid/monitor", self.results[key], prog_bar=True)

    def on_test_epoch_start(self) -> None:
        """Start the test metrics."""
        self._begin("test")

    def test_step(self, batch: QueryBatch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Rank the catalogue for the batch's users."""
        self._rank("test", batch)

    def on_test_epoch_end(self) -> None:
        """Keep the test metrics in :attr:`results`."""
        self.results = self._end("test")
        self.log_dict({k: v for k, v in self.results.items() if k.count("/") == 2})

    def _rank(self, stage: str, batch: QueryBatch) -> None:
        try:
            self._metrics[stage][str(batch.domain)].update(self.score(batch), batch)  # type: ignore[operator, index]
        except CrossrecError as error:
            name = self.domains[batch.domain].name
            raise CrossrecError(f"{error} (stage {stage}, domain {name}, step {self.global_step})") from error

    def users_table(self, domain: int) -> Any:
        """Per-query test metrics of a domain as a polars frame."""
        return self._metrics["test"][str(domain)].users_table()  # type: ignore[operator, index]
