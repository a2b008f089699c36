"""Splits that hold out whole users or whole items."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossrec.data.ragged import Ids
from crossrec.data.randomness import numpy_generator
from crossrec.data.schema import Corpus
from crossrec.data.splits import TEST, VALID, Claims, Split, row_domains
from crossrec.errors import CrossrecError


def _choose(pool: Ids, fraction: float, valid_share: float, rng: np.random.Generator) -> tuple[Ids, Ids]:
    """Draw validation and test members of ``pool``; at least one of the latter."""
    count = min(max(round(fraction * len(pool)), 1), len(pool))
    chosen = rng.permutation(pool)[:count]
    n_valid = min(round(valid_share * count), count - 1)
    return chosen[:n_valid], chosen[n_valid:]


def _check_shares(fraction: float, valid_share: float) -> None:
    if not 0 < fraction < 1:
        raise CrossrecError(f"split.fraction is {fraction}: give a share between 0 and 1")
    if not 0 <= valid_share < 1:
        raise CrossrecError(f"split.valid_share is {valid_share}: give a share of at least 0 and below 1")


class ColdUser:
    """Hold out every target row of some users who are known from another domain.

    Source of the protocol: Man et al., "Cross-domain recommendation: an embedding and mapping approach", IJCAI 2017.

    Args:
        fraction: share of the eligible users (rows in the target and in the source) that is held out.
        target: name of the domain they are cold in.
        source: name of the domain they must be known from; None for any other domain.
        valid_share: share of the chosen users that is validation; the others are test.
        seed: of the choice.

    Raises:
        CrossrecError: a share is out of range, a domain unknown, or no user is eligible.
    """

    def __init__(
        self, fraction: float = 0.1, *, target: str, source: str | None = None, valid_share: float = 0.5, seed: int = 0
    ) -> None:
        _check_shares(fraction, valid_share)
        if source == target:
            raise CrossrecError(f"split.source and split.target are both {target!r}: name two domains")
        self.fraction, self.target, self.source, self.valid_share, self.seed = (
            fraction,
            target,
            source,
            valid_share,
            seed,
        )

    def __call__(self, corpus: Corpus) -> Split:
        """Return the split of ``corpus``."""
        target, member = corpus.domain(self.target).index, corpus.membership
        others = [d.index for d in corpus.domains if d.index != target]
        if self.source is not None:
            others = [corpus.domain(self.source).index]
        pool = np.flatnonzero(member[:, target] & member[:, others].any(axis=1)).astype(np.int64)
        if not len(pool):
            known = self.source or "any other domain"
            raise CrossrecError(f"split=cold_user found no user with rows in {self.target!r} and in {known}")
        valid, test = _choose(pool, self.fraction, self.valid_share, numpy_generator(self.seed, "cold_user"))
        label_of = np.zeros(corpus.n_users, dtype=np.int8)
        label_of[valid], label_of[test] = VALID, TEST
        label = np.where(row_domains(corpus) == target, label_of[corpus.interactions["user"].to_numpy()], 0).astype(
            np.int8
        )
        claims = Claims(cold_users=np.concatenate([valid, test]), cold_domain=target)
        return Split(label, False, "cold_user", claims)


class ColdItem:
    """Hold out every row of some items.

    Args:
        fraction: share of each domain's items (those with rows) that is held out.
        seed: of the choice.
        domains: names of the domains whose items are chosen from; None for all.
        valid_share: share of the chosen items that is validation; the others are test.

    Raises:
        CrossrecError: a share is out of range, or a domain is unknown or empty.
    """

    def __init__(
        self, fraction: float = 0.1, seed: int = 0, domains: Sequence[str] | None = None, valid_share: float = 0.5
    ) -> None:
        _check_shares(fraction, valid_share)
        self.fraction, self.seed, self.domains, self.valid_share = fraction, seed, domains, valid_share

    def __call__(self, corpus: Corpus) -> Split:
        """Return the split of ``corpus``."""
        items = corpus.interactions["item"].to_numpy()
        used = np.unique(items)
        label_of = np.zeros(corpus.n_items, dtype=np.int8)
        for name in [d.name for d in corpus.domains] if self.domains is None else self.domains:
            domain = corpus.domain(name)
            pool = used[(used >= domain.start) & (used < domain.stop)].astype(np.int64)
            if not len(pool):
                raise CrossrecError(f"split=cold_item found no interaction in domain {name!r}")
            rng = numpy_generator(self.seed, "cold_item", domain.index)
            valid, test = _choose(pool, self.fraction, self.valid_share, rng)
            label_of[valid], label_of[test] = VALID, TEST
        return Split(label_of[items], False, "cold_item", Claims(cold_items=np.flatnonzero(label_of).astype(np.int64)))
