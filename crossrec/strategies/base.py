"""The base LightningModule: towers, objective, adaptation terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

import torch
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor, nn

from crossrec.adaptation.base import Adaptation, DomainViews
from crossrec.adaptation.gather import world_size
from crossrec.data.batches import PAD, Batch, PairwiseBatch, PointwiseBatch, QueryBatch, SequenceBatch
from crossrec.data.schema import Domain
from crossrec.encoders.base import ItemEncoder, UserEncoder
from crossrec.errors import CrossrecError
from crossrec.evaluation.collector import RankingMetrics
from crossrec.objectives.base import Objective
from crossrec.strategies.epoch_means import EpochMeans
from crossrec.strategies.evaluated import Evaluated
from crossrec.strategies.scoring import last_state, score_catalogue, score_pairs, score_shared

Space = Literal["users", "items"]


class Strategy(Evaluated):
    """Score user i for item j by the inner product <U_i, V_j> and train on one or more domains.

    A subclass says which domains train (:meth:`train_domains`) and may change what is scored (:meth:`represent`) and
    what is compared (:meth:`adaptation_views`). Random numbers of a training step (dropout) come from a generator state
    derived from ``(seed, epoch, batch, rank)``, so a resumed run draws what the uninterrupted one would have drawn.

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
        membership: (n_users, n_domains) bool, who has a training row in which domain.
        entities: (n_items,) entity of each item; items of two domains that are the same thing have the same. None: no
            two items are.
        domain_weights: domain name -> weight of its rows in the recommendation loss (default 1 each).
        seed: of the run.
    """

    trains = True
    membership: Tensor
    entities: Tensor
    entity_membership: Tensor

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
        entities: Tensor | None = None,
        adaptation: Mapping[str, Adaptation] | None = None,
        scheduler: Callable[..., Any] | None = None,
        domain_weights: Mapping[str, float] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(domains, target, metrics, monitor)
        self.item_encoder = item_encoder
        self.user_encoder = user_encoder
        self.objective = objective
        self.adaptation = nn.ModuleDict(dict(adaptation or {}))
        self.run_seed = seed
        self.register_buffer("membership", membership, persistent=False)
        entities = torch.arange(self.domains[-1].stop) if entities is None else entities
        self.register_buffer("entities", entities, persistent=False)
        self.register_buffer("entity_membership", self._entity_membership(entities), persistent=False)
        for term in (adaptation or {}).values():
            term.prepare(len(self.domains))
        self._optimizer = optimizer
        self._scheduler = scheduler
        self._domain_weights = self._weights_of(domain_weights)
        self._means = EpochMeans()
        self._total_steps = 0.0

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

    def _entity_membership(self, entities: Tensor) -> Tensor:
        member = torch.zeros((int(entities.max()) + 1, len(self.domains)), dtype=torch.bool)
        member[entities, self.domain_of(torch.arange(len(entities)))] = True
        return member

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

    def represent(self, space: Space, vectors: Tensor, domains: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Turn what a tower gives into what is scored, as seen in each row's domain; by default the same vectors.

        Args:
            space: ``users`` or ``items``: which tower's.
            vectors: (n, f) from the tower.
            domains: (n,) domain index: where the user is to be recommended to, or where the item is.

        Returns:
            (n, f) to be scored, and ``layers`` for adaptation terms, by name (see :class:`DomainViews`).
        """
        return vectors, {}

    def users_in(self, vectors: Tensor, domains: Tensor) -> Tensor:
        """Vectors (n, f) of :meth:`encode_users` as seen in ``domains`` (n,)."""
        return self.represent("users", vectors, domains)[0]

    def item_vectors(self, items: Tensor) -> Tensor:
        """Vectors (..., f) of item ids (...), to be scored."""
        vectors = self.item_encoder(items).flatten(0, -2)
        return self.represent("items", vectors, self.domain_of(items).flatten())[0].view(
            *items.shape, self.item_encoder.dim
        )

    def catalogue(self, domain: int) -> Tensor:
        """Vectors (n_items, f) of a domain's whole catalogue."""
        d = self.domains[domain]
        return self.item_vectors(torch.arange(d.start, d.stop, device=self.device))

    def users_for(self, batch: QueryBatch) -> Tensor:
        """Vectors (q, f) of the queries' users, as seen in the queries' domain."""
        users = self.encode_users(batch.users, batch.history)
        return self.users_in(users, torch.full_like(batch.users, batch.domain))

    # ---- training -----------------------------------------------------------------------------------------------

    def recommendation_loss(self, batch: Batch) -> tuple[Tensor, dict[str, DomainViews]]:
        """Loss of the objective on a batch, and the vectors it was computed from for the adaptation terms."""
        if isinstance(batch, PointwiseBatch):
            states, ids, positives, domains = self.user_encoder(batch.users), batch.users, batch.items, batch.domains
        elif isinstance(batch, PairwiseBatch):
            states, ids, positives, domains = (
                self.user_encoder(batch.users), batch.users, batch.positives, batch.domains,
            )  # fmt: skip
        elif isinstance(batch, SequenceBatch):
            rows = batch.targets != PAD
            states = self.history_states(batch.history)[rows]
            ids = batch.users.unsqueeze(1).expand_as(batch.targets)[rows]
            positives, domains = batch.targets[rows], batch.domains[rows]
        else:
            raise TypeError(f"no training step for {type(batch).__name__}")
        weight = self._row_weights(domains)
        users, user_layers = self.represent("users", states, domains)
        full = self.objective.full and not isinstance(batch, PointwiseBatch)
        items, item_layers = users, dict[str, Tensor]()
        if not full:
            items, item_layers = self.represent("items", self.item_encoder(positives), domains)
        if isinstance(batch, PointwiseBatch):
            loss = self.objective.labelled((users * items).sum(-1), batch.labels, weight=weight)
        elif full:
            loss = score_catalogue(self, users, positives, domains, weight)
        elif self.objective.shared:
            loss = score_shared(self, users, items, positives, domains, batch.negatives, weight)
        else:
            negatives = batch.negatives[rows] if isinstance(batch, SequenceBatch) else batch.negatives
            loss = score_pairs(self, users, items, domains, negatives, weight)
        views: dict[str, DomainViews] = {}
        if self.adaptation:
            if full:  # after the loss, whose random numbers (dropout) are then the same without a term
                items, item_layers = self.represent("items", self.item_encoder(positives), domains)
            order = self._places(batch)
            shown = {
                "users": DomainViews(users, domains, ids, layers={**user_layers, "partner": items}, order=order),
                "items": DomainViews(items, domains, positives, layers={**item_layers, "partner": users}, order=order),
            }
            if isinstance(batch, PointwiseBatch):  # a sampled pair says nothing of either domain
                observed = torch.nonzero(batch.labels > 0).squeeze(1)
                shown = {space: view.take(observed) for space, view in shown.items()}
            views = self.adaptation_views(shown)
        return self._share(loss, weight, len(ids)), views

    def _places(self, batch: Batch) -> Tensor:
        """Place of each row of the loss in the batch of all processes, of which this one has every n-th."""
        mine = torch.arange(len(batch.users), device=batch.users.device) * world_size() + self.global_rank
        if not isinstance(batch, SequenceBatch):
            return mine
        width = batch.targets.shape[1]
        places = mine.unsqueeze(1) * width + torch.arange(width, device=mine.device)
        return places[batch.targets != PAD]

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

    def adaptation_views(self, views: dict[str, DomainViews]) -> dict[str, DomainViews]:
        """What the adaptation terms compare: users as seen in each row's domain, and the rows' items as entities.

        Args:
            views: ``users`` and ``items`` of the batch's observed rows, row i of both the same interaction; ids are
                those of users and of items.
        """
        users, items = views["users"], views["items"]
        entities = self.entities[items.ids]
        return {
            "users": replace(users, membership=self.membership[users.ids]),
            "items": replace(items, ids=entities, membership=self.entity_membership[entities]),
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
        """Log the epoch's mean of every part of the loss; say which terms had nothing to compare."""
        for name, term in self.adaptation.items():
            if not term.compared and self.current_epoch == 0:
                rank_zero_warn(
                    f"adaptation.{name} has compared nothing in the first epoch, because no batch held enough rows of "
                    "two domains: sampler=cycle gives every domain a share of each batch"
                )
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
