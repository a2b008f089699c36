"""Who is known where."""

from __future__ import annotations

import torch
from torch import Tensor


def entity_membership(entities: Tensor, domains: Tensor, n_domains: int, train_items: Tensor | None) -> Tensor:
    """(n_entities, n_domains) bool, which entity has a training row in which domain.

    Args:
        entities: (n_items,) entity of each item.
        domains: (n_items,) domain index of each item.
        n_domains: number of domains.
        train_items: (n_items,) bool, items with a training row; None when all have one.
    """
    items = torch.arange(len(entities))
    items = items if train_items is None else items[train_items]
    member = torch.zeros((int(entities.max()) + 1, n_domains), dtype=torch.bool)
    member[entities[items], domains[items]] = True
    return member
