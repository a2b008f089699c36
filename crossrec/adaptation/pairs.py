"""Which domains, and which rows of them, are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from crossrec.errors import CrossrecError

Pairs = Literal["all", "target", "chain"]
Rows = Literal["all", "overlap", "non_overlap"]


@dataclass(frozen=True)
class DomainViews:
    """Vectors of one kind of thing, each seen in a domain.

    Args:
        vectors: (n, f).
        domains: (n,) domain index.
        ids: (n,) global id; the same id in two domains is the same thing.
        mask: (n,) bool, True for rows that count; None is all.
        membership: (n, n_domains) bool, the domains that the row's id is known in. With None an id is known where this
            batch shows it, which misses most of an overlap when batches are small.
        layers: more vectors of the same rows, (n, ...) each, by name. Every strategy shows ``partner``: the vector of
            what the row was seen with, a user's item and an item's user.
        order: (n,) place of each row among those of all processes, ascending; of an id's rows in a domain the last one
            counts. None: in the order given, and the rows of one process before those of the next.
    """

    vectors: Tensor
    domains: Tensor
    ids: Tensor
    mask: Tensor | None = None
    membership: Tensor | None = None
    layers: Mapping[str, Tensor] = field(default_factory=dict)
    order: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Tensor) -> DomainViews:
        """Return the rows at positions, or under a mask, ``rows``."""
        if rows.dtype == torch.bool:
            rows = torch.nonzero(rows).squeeze(1)

        def pick(values: Tensor) -> Tensor:  # the gradient of indexing by brackets takes 5 times as long
            return values.index_select(0, rows)

        return DomainViews(
            vectors=pick(self.vectors),
            domains=pick(self.domains),
            ids=pick(self.ids),
            mask=None if self.mask is None else pick(self.mask),
            membership=None if self.membership is None else pick(self.membership),
            layers={name: pick(layer) for name, layer in self.layers.items()},
            order=None if self.order is None else pick(self.order),
        )

    def of(self, domain: int) -> DomainViews:
        """Return the rows of one domain."""
        return self.take(self.domains == domain)


def distinct(view: DomainViews) -> DomainViews:
    """Return the rows that count, one for each id in each domain: the last, kept in order, and connected to the graph.

    The last row of a user whose state grows along a sequence is the latest.
    """
    if view.mask is not None:
        view = replace(view.take(view.mask), mask=None)
    if not len(view):
        return view
    keys = view.domains * (view.ids.max() + 1) + view.ids  # one number a pair: sorting rows is 20 times slower
    order = keys.argsort(stable=True)
    keys = keys[order]
    last = torch.cat([keys[1:] != keys[:-1], keys.new_ones(1, dtype=torch.bool)])
    rows = order[last]
    return view if len(rows) == len(view) else view.take(rows.sort().values)


def domain_pairs(present: list[int], target: int | None, pairs: Pairs) -> list[tuple[int, int]]:
    """Pairs of domain indices to compare.

    Args:
        present: indices of the domains that have rows, ascending.
        target: index of the target domain.
        pairs: ``all`` of them; ``target``: every other domain with the target; ``chain``: each with the next one
            present.

    Returns:
        (source, target) for ``target``, otherwise ascending.

    Raises:
        CrossrecError: ``target`` without a target domain, or an unknown choice.
    """
    if pairs == "all":
        return [(a, b) for i, a in enumerate(present) for b in present[i + 1 :]]
    if pairs == "chain":
        return list(pairwise(present))
    if pairs != "target":
        raise CrossrecError(f"adaptation pairs={pairs!r} must be all, target or chain")
    if target is None:
        raise CrossrecError("adaptation pairs=target needs one target domain: set target, or pairs=all")
    return [(a, target) for a in present if a != target] if target in present else []


def overlap_mask(view: DomainViews, other: DomainViews, domain: int) -> Tensor:
    """(n,) bool: the rows of ``view`` whose id is also known in ``domain``, whose rows are ``other``."""
    if view.membership is not None:
        return view.membership[:, domain]
    return torch.isin(view.ids, other.ids)


def choose_rows(a: DomainViews, b: DomainViews, pair: tuple[int, int], rows: Rows) -> tuple[DomainViews, DomainViews]:
    """Rows of the pair's two domains that are compared: all, those of ids known in both, or the others."""
    if rows == "all":
        return a, b
    in_b, in_a = overlap_mask(a, b, pair[1]), overlap_mask(b, a, pair[0])
    return (a.take(in_b), b.take(in_a)) if rows == "overlap" else (a.take(~in_b), b.take(~in_a))


def known_in(view: DomainViews, rows: Rows) -> DomainViews:
    """Rows of all domains at once: all, those of ids known in two domains or more, or those of ids known in one alone.

    Of two domains, it is what :func:`choose_rows` takes.
    """
    if rows == "all" or not len(view):
        return view
    if view.membership is not None:
        counts = view.membership.sum(1)
    else:
        _, place, times = torch.unique(view.ids, return_inverse=True, return_counts=True)
        counts = times[place]
    return view.take(counts > 1) if rows == "overlap" else view.take(counts == 1)


def check_rows(name: str, rows: str) -> None:
    """Refuse a value of the option ``rows`` of the term ``name`` that is none."""
    if rows not in ("all", "overlap", "non_overlap"):
        raise CrossrecError(f"adaptation.{name}.rows={rows!r} must be all, overlap or non_overlap")


def matched(a: DomainViews, b: DomainViews) -> tuple[DomainViews, DomainViews]:
    """Rows (k,) of the ids that both have, row i of both the same id; ids are distinct in each."""
    ids = a.ids[torch.isin(a.ids, b.ids)].sort().values
    order_a, order_b = a.ids.argsort(), b.ids.argsort()
    rows_a = order_a[torch.searchsorted(a.ids[order_a], ids)]
    rows_b = order_b[torch.searchsorted(b.ids[order_b], ids)]
    return a.take(rows_a), b.take(rows_b)
