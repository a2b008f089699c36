"""Contrast of a user's vectors in different domains: inter-domain contrastive learning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from crossrec.adaptation.base import DomainViews
from crossrec.adaptation.pairs import distinct
from crossrec.data.batches import SequenceBatch, TrainingBatch
from crossrec.data.schema import Domain
from crossrec.encoders.base import ItemEncoder
from crossrec.errors import CrossrecError
from crossrec.strategies.base import Space, Strategy
from crossrec.strategies.terms import shaped_spaces, warn_of_unshaped

BEFORE = 2**62
"""Subtracted from the places of added rows, so that those of every process come before all rows of the batch."""


class Contrastive(Strategy):
    """Train on all domains; a user has a vector in each, and terms compare the vectors of the same user.

    With h_i what the user tower gives, the vector of user i in domain d is u_id = h_i + A_d h_i, with an (f, f) matrix
    A_d for each domain, zero at first: the first scores are those of strategy=merged. In domain d the score is
    <u_id, v_j>. Loss: L_rec + sum_k w_k L_k, with L_k the terms of ``adaptation`` (InfoNCE of the users by default).

    Terms see each user of the batch in every domain that the user is a member of, whether or not the batch has a row of
    the user there, so users of two domains are matched in every batch. A row that the batch has counts before the one
    that is added, which is made of the user's last row: from its h_i, and with its item as the ``partner``, an item
    that the user was seen with, though maybe not in that domain.

    Where the tower gives a user another state for another domain (``user_encoder.history=own``, ``mixed_and_own``), h_i
    is that of the added row's domain, after the same events: those before the last row's item. So what is contrasted is
    what is scored there. A user who is read by own histories alone and has no event of that domain among these gets no
    row, as rows of the batch with a zero state do not count: it says nothing of the user, and is the same for all. With
    several windows of a user in the batch the last one that gives a state counts.

    Source: Xie et al., "Contrastive cross-domain recommendation in matching" (CCDR), KDD 2022, the user-based
    inter-domain contrastive learning: an aligned user's vectors of two domains against other users'. Deviations: the
    vectors are heads on one tower, not the outputs of two graph networks; only users are contrasted, not taxonomies
    or neighbours, and there is no contrast within a domain; a user's negatives are the vectors, in the other domain
    of the pair, of the batch's other users who are members of both (see InfoNCE), not users drawn from the whole
    domain; all domains are trained, at once.

    As A_d is zero at first and a user's vectors agree, InfoNCE first pushes users apart, those of one taste too, and a
    row's cosines get up to weight / temperature as gradient, where its scores get 1 at most. With weight 0.1 at
    temperature 0.1 that was 5 times the gradient of L_rec in the towers at first (synthetic corpus, transformer, full
    softmax), hence the default of 0.01.

    A_d is trained if a term of weight above 0 reads the users, and stays zero otherwise: with all weights 0 the run is
    that of strategy=merged, bit for bit. The heads alone, which no term shapes, are those of a weight too small to be
    felt, such as 1e-12.

    Args:
        heads: false: no A_d; users are as in strategy=merged, and terms see the rows of the batch alone. A user whose
            vector is looked up by id then has one vector in all domains, so a paired term on users is refused.
        arguments: see :class:`Strategy`.

    Raises:
        CrossrecError: an option has none of its values.
    """

    def __init__(
        self,
        *,
        item_encoder: ItemEncoder,
        domains: Sequence[Domain],
        heads: bool = True,
        **arguments: Any,
    ) -> None:
        if not isinstance(heads, bool):
            raise CrossrecError(f"strategy.heads={heads!r} must be true or false")
        super().__init__(item_encoder=item_encoder, domains=domains, **arguments)
        f = item_encoder.dim
        self.heads = nn.Parameter(torch.zeros(len(domains), f, f), "users" in shaped_spaces(self)) if heads else None

    def told_apart(self, space: str) -> bool:
        """Say that A_d, which learns wherever a term has a weight to feel it, tells the vectors of a user apart."""
        return (space == "users" and self.heads is not None) or super().told_apart(space)

    def setup(self, stage: str) -> None:
        """Check the adaptation terms before training."""
        super().setup(stage)
        if stage == "fit" and self.heads is not None:
            warn_of_unshaped(self, ["users"])

    def represent(self, space: Space, vectors: Tensor, domains: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return users as seen in their row's domain, and what the tower gave as the layer ``input``."""
        if space == "items" or self.heads is None:
            return vectors, {}
        rows = torch.arange(len(domains), device=domains.device)
        return self.in_every_domain(vectors)[rows, domains], {"input": vectors}

    def in_every_domain(self, vectors: Tensor) -> Tensor:
        """u_id (n, n_domains, f) of what the tower gives (n, f)."""
        assert self.heads is not None
        n_domains, f, _ = self.heads.shape
        return vectors.unsqueeze(1) + (vectors @ self.heads.view(-1, f).T).view(-1, n_domains, f)

    def adaptation_views(self, views: dict[str, DomainViews], batch: TrainingBatch) -> dict[str, DomainViews]:
        """Show users in every domain they are members of; the batch's own rows are the last of each user."""
        shown = super().adaptation_views(views, batch)
        if self.heads is None:
            return shown
        users = shown["users"]
        own = users if users.mask is None else users.take(users.mask)
        added = self._added(users, own, batch)
        assert added.membership is not None and own.membership is not None
        order = None  # rows added by any process come before the batch's own of all processes
        if users.order is not None and own.order is not None:
            order = torch.cat([users.order[added.order] - BEFORE, own.order])
        every = DomainViews(
            vectors=torch.cat([added.vectors, own.vectors]),
            domains=torch.cat([added.domains, own.domains]),
            ids=torch.cat([added.ids, own.ids]),
            membership=torch.cat([added.membership, own.membership]),
            layers={name: torch.cat([added.layers[name], layer]) for name, layer in own.layers.items()},
            order=order,
        )
        return {**shown, "users": every}

    def _added(self, users: DomainViews, own: DomainViews, batch: TrainingBatch) -> DomainViews:
        """Rows of the batch's users in every domain of theirs; ``order`` is the row of ``users`` each is made of."""
        if isinstance(batch, SequenceBatch) and self.user_encoder.by_domain:
            return self._reread(users, own, batch)
        last = _last(users, users.ids)
        assert last.membership is not None
        rows, domains = torch.nonzero(last.membership, as_tuple=True)
        vectors = self.in_every_domain(last.layers["input"])[rows, domains]
        return replace(last.take(rows), vectors=self.objective.scored(vectors), domains=domains)

    def _reread(self, users: DomainViews, own: DomainViews, batch: SequenceBatch) -> DomainViews:
        """Rows as of :meth:`_added` that no row of the batch counts before, with the state of their own domain."""
        windows, places = torch.nonzero(batch.real, as_tuple=True)
        last = _last(users, windows)
        assert users.membership is not None and last.order is not None
        which, domains = torch.nonzero(users.membership[last.order], as_tuple=True)
        rows, n = last.order[which], len(self.domains)
        new = ~torch.isin(users.ids[rows] * n + domains, own.ids * n + own.domains)
        rows, domains = rows[new], domains[new]
        added = replace(users.take(rows), mask=None, domains=domains, order=rows)
        if not len(rows):
            return added
        history = batch.history[windows[rows]]
        states = self.history_states(history, domains.unsqueeze(1).expand_as(history))
        states = states[torch.arange(len(rows), device=rows.device), places[rows]]
        added = replace(added, layers={**added.layers, "input": states}).take(states.any(1))
        return replace(added, vectors=self.users_in(added.layers["input"], added.domains))


def _last(users: DomainViews, groups: Tensor) -> DomainViews:
    """The last row of each of ``groups`` (n,) of the rows; its ``order`` is its place among them."""
    rows = torch.arange(len(users), device=users.ids.device)
    return distinct(replace(users, ids=groups, domains=torch.zeros_like(rows), mask=None, order=rows))
