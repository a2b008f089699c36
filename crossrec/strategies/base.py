"""The base LightningModule: towers, objective, adaptation terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from crossrec.adaptation.base import Adaptation, DomainViews
from crossrec.adaptation.by_space import by_space
from crossrec.adaptation.gather import world_size
from crossrec.data.batches import PAD, QueryBatch, SequenceBatch, TrainingBatch
from crossrec.data.schema import Domain
from crossrec.encoders.base import ItemEncoder, UserEncoder
from crossrec.evaluation.collector import RankingMetrics
from crossrec.objectives.base import Objective
from crossrec.strategies.domain_weights import DomainWeights
from crossrec.strategies.epoch_means import EpochMeans
from crossrec.strategies.evaluated import Evaluated
from crossrec.strategies.finite import FiniteValues
from crossrec.strategies.membership import entity_membership
from crossrec.strategies.parameter_groups import parameter_groups
from crossrec.strategies.scoring import last_state, score_catalogue, score_rows, share_of_mean
from crossrec.strategies.terms import check_budget, check_finite, check_terms, warn_of_nothing_compared

Space = Literal["users", "items"]


class Strategy(Evaluated):
    """Score user i for item j by the inner product <U_i, V_j> and train on one or more domains.

    A subclass says which domains train, select the epoch and are tested (:class:`DomainRoles`), and may change what is
    scored (:meth:`represent`) and what is compared (:meth:`adaptation_views`). Random numbers of a training step
    (dropout) come from a generator state derived from ``(seed, epoch, batch, rank)``, so a resumed run draws what the
    uninterrupted one would have drawn.

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
        train_items: (n_items,) bool, items with a training row; None when all have one.
        domain_weights: domain name -> weight of its rows in the recommendation loss; see :class:`DomainWeights`.
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
        train_items: Tensor | None = None,
        adaptation: Mapping[str, Adaptation] | None = None,
        scheduler: Callable[..., Any] | None = None,
        domain_weights: Mapping[str, float | Sequence[float]] | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(domains, target, metrics, monitor)
        self.item_encoder = item_encoder
        self.user_encoder = user_encoder
        self.objective = objective
        self.adaptation = nn.ModuleDict(by_space(adaptation or {}))
        self.run_seed = seed
        self.register_buffer("membership", membership, persistent=False)
        entities = torch.arange(self.domains[-1].stop) if entities is None else entities
        self.register_buffer("entities", entities, persistent=False)
        where = self.domain_of(torch.arange(len(entities)))
        known = entity_membership(entities, where, len(self.domains), train_items)
        self.register_buffer("entity_membership", known, persistent=False)
        for term in self.adaptation.values():
            cast(Adaptation, term).prepare(len(self.domains))
        self._optimizer = optimizer
        self._scheduler = scheduler
        names = [d.name for d in self.domains]
        self.domain_weights = DomainWeights(names, domain_weights) if domain_weights else None
        self._means = EpochMeans()
        self._finite = FiniteValues()
        self._total_steps = 0.0
        self._adapted = target if self.trains_target(self.domains, target) else None

    # ---- towers -------------------------------------------------------------------------------------------------

    def encode_users(self, users: Tensor, history: Tensor, domain: int) -> Tensor:
        """Encode users (q,) with their histories (q, l), PAD-padded, to (q, f); no history gives the zero vector.

        Args:
            users: global user ids.
            history: left-aligned item ids.
            domain: index of the domain to recommend in.
        """
        if not self.user_encoder.uses_history:
            return cast(Tensor, self.user_encoder(users))
        if history.shape[1] == 0:
            return torch.zeros(len(users), self.item_encoder.dim, device=self.device)
        states = self.history_states(history, torch.full_like(history, domain))
        return last_state(states, history != PAD)

    def history_states(self, history: Tensor, wanted: Tensor) -> Tensor:
        """User state after each event of ``history`` (b, l), for recommending in ``wanted`` (b, l) -> (b, l, f)."""
        mask = history != PAD
        items = history.clamp_min(0)
        return self.read(self.item_encoder(items), self.domain_of(items), mask, wanted)

    def read(self, vectors: Tensor, domains: Tensor, mask: Tensor, wanted: Tensor) -> Tensor:
        """User state after each event; arguments as in :meth:`UserEncoder.states_for`, whose states they are."""
        return self.user_encoder.states_for(vectors, domains, mask, wanted)

    def known_users(self, states: Tensor, layers: dict[str, Tensor]) -> Tensor | None:
        """(n,) bool, whose state (n, f) says something of the user, by it or its ``layers``; None when all do."""
        return states.any(1) if self.user_encoder.by_domain else None

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

    def told_apart(self, space: str) -> bool:
        """Whether what terms compare, ``users`` or ``items``, can differ between two domains for one id."""
        return self.user_encoder.uses_history if space == "users" else not self.item_encoder.shares_entities

    def scored(self, space: Space, vectors: Tensor, domains: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What :meth:`represent` returns, with the vectors as the objective scores them."""
        vectors, layers = self.represent(space, vectors, domains)
        return self.objective.scored(vectors), layers

    def users_in(self, vectors: Tensor, domains: Tensor) -> Tensor:
        """Vectors (n, f) of :meth:`encode_users` as seen in ``domains`` (n,), to be scored."""
        return self.scored("users", vectors, domains)[0]

    def item_vectors(self, items: Tensor) -> Tensor:
        """Vectors (..., f) of item ids (...), to be scored."""
        vectors = self.item_encoder(items).flatten(0, -2)
        return self.scored("items", vectors, self.domain_of(items).flatten())[0].view(
            *items.shape, self.item_encoder.dim
        )

    def catalogue(self, domain: int) -> Tensor:
        """Vectors (n_items, f) of a domain's whole catalogue."""
        d = self.domains[domain]
        return self.item_vectors(torch.arange(d.start, d.stop, device=self.device))

    def users_for(self, batch: QueryBatch) -> Tensor:
        """Vectors (q, f) of the queries' users, as seen in the queries' domain."""
        users = self.encode_users(batch.users, batch.history, batch.domain)
        return self.users_in(users, torch.full_like(batch.users, batch.domain))

    # ---- training -----------------------------------------------------------------------------------------------

    def recommendation_loss(self, batch: TrainingBatch) -> tuple[Tensor, dict[str, DomainViews]]:
        """Loss of the objective on a batch, and the vectors it was computed from for the adaptation terms."""
        return self.loss_of(batch, self.states_of(batch))

    def states_of(self, batch: TrainingBatch) -> Tensor:
        """What the user tower gives: a state (b, l, f) after every event of a window, or users (b, f)."""
        if isinstance(batch, SequenceBatch):
            return self.history_states(batch.history, batch.domains)
        return cast(Tensor, self.user_encoder(batch.users))

    def loss_of(self, batch: TrainingBatch, states: Tensor) -> tuple[Tensor, dict[str, DomainViews]]:
        """Loss and views as :meth:`recommendation_loss`, from what :meth:`states_of` has given."""
        rows = batch.observations(self.global_rank, world_size())
        states = states[batch.real] if isinstance(batch, SequenceBatch) else states
        domains, weights = rows.domains, self.domain_weights
        weight = None if weights is None else weights.of_rows(self.progress(), domains)
        users, layers = self.scored("users", states, domains)
        if self.objective.full and rows.labels is None:
            loss = score_catalogue(self, users, rows.items, domains, weight)
            if not self.adaptation:
                return share_of_mean(self, loss, weight, len(domains)), {}
            # after the loss, whose random numbers (dropout) are then the same without a term
            items, item_layers = self.scored("items", self.item_encoder(rows.items), domains)
        else:
            items, item_layers = self.scored("items", self.item_encoder(rows.items), domains)
            loss = score_rows(self, batch, rows, users, items, weight)
        views: dict[str, DomainViews] = {}
        if self.adaptation:
            layers, item_layers = {**layers, "partner": items}, {**item_layers, "partner": users}
            known = self.known_users(states, layers)
            views = {
                "users": DomainViews(users, domains, rows.users, known, layers=layers, order=rows.places),
                "items": DomainViews(items, domains, rows.items, layers=item_layers, order=rows.places),
            }
            if rows.labels is not None:  # a sampled pair says nothing of either domain
                views = {space: view.take(rows.labels > 0) for space, view in views.items()}
            views = self.adaptation_views(views, batch)
        return share_of_mean(self, loss, weight, len(domains)), views

    def adaptation_views(self, views: dict[str, DomainViews], batch: TrainingBatch) -> dict[str, DomainViews]:
        """What the adaptation terms compare: users as seen in each row's domain, and the rows' items as entities.

        Users whose state is zero, as before their first event in a domain when only those are read, do not count.

        Args:
            views: ``users`` and ``items`` of the batch's observed rows, row i of both the same interaction; ids are
                those of users and of items.
            batch: the batch itself.
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

    def training_step(self, batch: TrainingBatch, batch_idx: int) -> Tensor:
        """Recommendation loss plus every adaptation term."""
        loss, views = self.recommendation_loss(batch)
        parts, added, progress = {"recommendation": loss.detach()}, {"": loss}, self.progress()
        for name, term in self.adaptation.items():
            added[name], entries = term(views, target=self._adapted, progress=progress)
            loss = loss + added[name]
            parts.update(entries)
        parts["loss"] = loss.detach()
        self._means.add(parts)
        self._finite.add(added)
        return loss

    def progress(self) -> float:
        """Share of the training budget that is spent, in [0, 1]."""
        return min(self.global_step / self._total_steps, 1.0) if 0 < self._total_steps < float("inf") else 0.0

    def setup(self, stage: str) -> None:
        """Check the adaptation terms before training."""
        if stage == "fit":
            check_terms(self)

    def on_train_start(self) -> None:
        """Take the training budget, in steps, once; asked before it resumes, Lightning loses its place in the epoch."""
        self._total_steps = float(self.trainer.estimated_stepping_batches)
        check_budget(self, self._total_steps)

    def on_validation_epoch_start(self) -> None:
        """Refuse to rank what a loss that is not finite has trained."""
        check_finite(self, self._finite)
        super().on_validation_epoch_start()

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean of every part of the loss; say which terms had nothing to compare."""
        check_finite(self, self._finite)  # here too: not every epoch is validated
        if self.current_epoch == 0:
            warn_of_nothing_compared(self)
        self.log_dict({f"train/{k}": v for k, v in self._means.take().items()}, sync_dist=True)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the epoch has summed up to now."""
        if world_size() > 1:  # of each process's share: every process goes on with the mean
            self._means.average(lambda value: self.trainer.strategy.reduce(value, reduce_op="mean"))
        checkpoint["epoch_means"] = self._means.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the sums of the epoch that was broken off."""
        self._means.load_state_dict(checkpoint["epoch_means"])

    def configure_optimizers(self) -> Any:
        """Build the optimizer and the scheduler, stepped once an epoch."""
        optimizer = self._optimizer(parameter_groups(self))
        if self._scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self._scheduler(optimizer), "interval": "epoch"}}
