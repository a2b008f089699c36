"""Multi-domain contrastive pretraining, for a run that begins with its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from crossrec.adaptation.base import DomainViews
from crossrec.adaptation.gather import gather_rows
from crossrec.adaptation.numerics import unit_rows
from crossrec.data.batches import PAD, SequenceBatch, TrainingBatch
from crossrec.data.schema import Domain
from crossrec.errors import CrossrecError
from crossrec.objectives.base import weighted_mean
from crossrec.objectives.in_batch_softmax import contrast
from crossrec.ranges import at_least, rate
from crossrec.strategies.base import Strategy
from crossrec.strategies.scoring import last_state


class Pretraining(Strategy):
    """Train on all domains but the target, to tell each history's next item and each history from others.

    Loss: L_rec + weight * L_seq. L_rec is the objective's, by default the softmax over the batch's positives, of
    whatever domain. With u_i the user after all inputs of window i and u'_i after what is left when each input but the
    first is dropped with probability ``item_drop``,

    L_seq = mean over windows i of -log[ exp(c_ii) / (exp(c_ii) + sum over j of exp(c_ij)) ], c_ij = cos(u_i, u'_j) / t,

    where j runs over the other windows of the batch, of whatever domain, without those of the same user and those with
    the same last target. With several processes these are the windows of the global batch. Domain weights weigh L_rec
    alone. The epoch is selected by the mean of the validation of the domains that train, and these are tested.

    Source: Hou et al., "Towards universal sequence representation learning for recommender systems" (UniSRec), KDD
    2022: the sequence-item and the sequence-sequence contrastive task and their weighted sum, over negatives of all
    domains; weight, rate and temperature of the authors' code. Deviations: every event of a window is a row of L_rec;
    the second view is made by dropping items, not words, because the features of the frozen text model are cached for
    whole texts; the sum has the other windows' u', as in the authors' code, and no masked row, where that code leaves
    exp(0); windows of one user are masked too.

    Args:
        weight: of L_seq. With 0 nothing is computed or drawn for it: with target=all the run is then that of
            strategy=merged with the same objective, bit for bit.
        item_drop: probability that an input is left out of the second view; at 0 views differ by dropout alone.
        temperature: t.
        arguments: see :class:`Strategy`.

    Raises:
        CrossrecError: an option has none of its values, or users are looked up by id and so have no second view.
    """

    def __init__(
        self, *, weight: float = 1e-3, item_drop: float = 0.2, temperature: float = 0.07, **arguments: Any
    ) -> None:
        at_least("strategy.weight", weight, 0)
        rate("strategy.item_drop", item_drop)
        at_least("strategy.temperature", temperature, 0, strictly=True)
        super().__init__(**arguments)
        if weight and not self.user_encoder.uses_history:
            raise CrossrecError(
                f"strategy.weight={weight} contrasts histories, but this user_encoder looks users up by id: choose "
                "user_encoder=transformer, or strategy.weight=0"
            )
        self.weight, self.item_drop, self.temperature = weight, item_drop, temperature

    @classmethod
    def train_domains(cls, domains: Sequence[Domain], target: int | None) -> list[str]:
        """Return all domains but the target."""
        names = [d.name for d in domains if d.index != target]
        if not names:
            raise CrossrecError(
                f"strategy=pretraining trains on all domains but the target, and {domains[0].name} is the only one: "
                "set target=all"
            )
        return names

    def recommendation_loss(self, batch: TrainingBatch) -> tuple[Tensor, dict[str, DomainViews]]:
        """Both losses; each is logged by itself, as ``sequence_item`` and ``sequence_sequence``."""
        states = self.states_of(batch)
        loss, views = self.loss_of(batch, states)
        if self.weight:
            # after the objective's loss, whose random numbers are then those of weight 0
            contrasted = self.sequence_loss(batch, states)
            self._means.add({"sequence_item": loss, "sequence_sequence": contrasted})
            loss = loss + self.weight * contrasted
        return loss, views

    def sequence_loss(self, batch: TrainingBatch, states: Tensor) -> Tensor:
        """L_seq of a batch of windows, the same in every process.

        Args:
            batch: the windows.
            states: (b, l, f) of its users, after every input.
        """
        assert isinstance(batch, SequenceBatch)
        real = batch.real
        rows = torch.arange(len(real), device=real.device)
        last = real.shape[1] - 1 - real.flip(1).int().argmax(1)
        domains, targets = batch.domains[rows, last], batch.targets[rows, last]
        users = self.users_in(states[rows, last], domains)
        history = self.thinned(batch.history)
        views = self.history_states(history, domains.unsqueeze(1).expand_as(history))
        others = self.users_in(last_state(views, history != PAD), domains)
        users, others, owners, entities = gather_rows(users, others, batch.users, self.entities[targets])

        def negative(here: slice) -> Tensor:
            return (owners[here].unsqueeze(1) != owners) & (entities[here].unsqueeze(1) != entities)

        losses = contrast(unit_rows(users.float()), unit_rows(others.float()), negative, temperature=self.temperature)
        return weighted_mean(losses, None)

    def thinned(self, history: Tensor) -> Tensor:
        """Leave inputs of ``history`` (b, l) out at random, but the first; what is left is moved to the left."""
        kept = torch.rand(history.shape, device=history.device) >= self.item_drop
        kept[:, :1] = True
        kept &= history != PAD
        order = kept.int().argsort(dim=1, descending=True, stable=True)
        return history.gather(1, order).masked_fill(~kept.gather(1, order), PAD)[:, : max(int(kept.sum(1).max()), 1)]
