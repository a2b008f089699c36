"""A domain that nobody trains on: the test of what transfers with no label at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from crossrec.data.schema import Domain
from crossrec.encoders.base import ItemEncoder, UserEncoder, tables
from crossrec.encoders.domain_whitening import DomainWhitening
from crossrec.errors import CrossrecError
from crossrec.strategies.base import Strategy


class ZeroShot(Strategy):
    """Train on all domains but the target as one, then rank the target's catalogue for its users.

    No row of the target trains, is a negative, counts as popular or as a member, fits a whitening, or selects the
    epoch: that is done by the mean validation metric of the trained domains, whose histories are of these domains
    alone. The test reads users from what they did before it, in the target too, and ranks the target's items by what
    they are. All of them are cold; users are warm who have a training row of the split in the target, where it is
    history.

    A vector of each domain that a user encoder adds, or a weight, has nothing to be learnt from in the target: it is
    zero there, which adds nothing, instead of the random start that would move every user of the target alike.

    Source of the setting: Ding et al., "Zero-shot recommender systems", arXiv 2105.08318, which learns from items'
    content in some domains and recommends in another. Deviation: users too may be known from other domains, and the
    towers are those of any strategy.

    Args:
        item_encoder: makes vectors of items from what they are, such as their texts.
        user_encoder: reads histories.
        domains: all domains of the corpus.
        target: index of the domain that is held out.
        domain_weights: of the domains that train.
        arguments: see :class:`Strategy`.

    Raises:
        CrossrecError: there is no target, or no other domain, or something is looked up or fitted by ids or rows of the
            target.
    """

    def __init__(
        self,
        *,
        item_encoder: ItemEncoder,
        user_encoder: UserEncoder,
        domains: Sequence[Domain],
        target: int | None,
        domain_weights: Mapping[str, float | Sequence[float]] | None = None,
        **arguments: Any,
    ) -> None:
        held_out = domains[_target(domains, target)]
        _check_users(user_encoder, held_out)
        _check_items(item_encoder, held_out)
        if domain_weights and held_out.name in domain_weights:
            raise CrossrecError(
                f"strategy.domain_weights.{held_out.name} weighs rows of the domain that strategy=zero_shot holds out: "
                "leave it out"
            )
        super().__init__(
            item_encoder=item_encoder,
            user_encoder=user_encoder,
            domains=domains,
            target=target,
            domain_weights=domain_weights,
            **arguments,
        )
        _neutral(user_encoder, held_out)

    @classmethod
    def train_domains(cls, domains: Sequence[Domain], target: int | None) -> list[str]:
        """Return all but the target."""
        held_out = _target(domains, target)
        return [d.name for d in domains if d.index != held_out]

    @classmethod
    def test_domains(cls, domains: Sequence[Domain], target: int | None) -> list[str]:
        """Return the target only."""
        return [domains[_target(domains, target)].name]

    def begins_with(self, run: str, trained: Sequence[str]) -> None:
        """Refuse weights that have learnt from the target.

        Raises:
            CrossrecError: the run trained on it.
        """
        name = self.domains[_target(self.domains, self.target)].name
        if name in trained:
            raise CrossrecError(
                f"init.from hands over weights of {run}, which learnt from {name!r}, the domain that "
                "strategy=zero_shot holds out: name a run that did not"
            )


def _target(domains: Sequence[Domain], target: int | None) -> int:
    if target is None:
        names = ", ".join(d.name for d in domains)
        raise CrossrecError(f"strategy=zero_shot holds one domain out of training: set target to one of {names}")
    if len(domains) < 2:
        raise CrossrecError(
            f"strategy=zero_shot trains on the other domains, but the data have {domains[target].name!r} alone: choose "
            "data of two domains or more"
        )
    return target


def _check_users(encoder: UserEncoder, held_out: Domain) -> None:
    if not encoder.uses_history:
        raise CrossrecError(
            f"strategy=zero_shot has users in {held_out.name!r} who never trained, and this user_encoder reads no "
            "histories: choose user_encoder=mean, attention or transformer"
        )


def _check_items(encoder: ItemEncoder, held_out: Domain) -> None:
    for name, module in encoder.named_modules():
        if isinstance(module, DomainWhitening):
            key = ".".join(["item_encoder", *name.split(".")[:-1], "per_domain"])
            raise CrossrecError(
                f"{key}=true whitens each domain on its own training items, and strategy=zero_shot has none in "
                f"{held_out.name!r}: set it to false"
            )
    if encoder.unseen(torch.arange(held_out.start, held_out.stop)) != "content":
        raise CrossrecError(
            f"strategy=zero_shot ranks items of {held_out.name!r}, none of which trains, and this item_encoder does "
            "not make their vectors from texts alone: choose data with texts there, and item_encoder=text, or id_text "
            "with item_encoder.encoders.id.untrained=zero"
        )


@torch.no_grad()
def _neutral(encoder: nn.Module, held_out: Domain) -> None:
    parameters = dict(encoder.named_parameters())
    for name in tables(encoder, "domain_rows"):
        if name in parameters:
            parameters[name][held_out.index] = 0.0
