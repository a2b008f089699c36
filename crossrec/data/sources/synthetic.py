"""Planted tastes: a data set whose truth is known."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from crossrec.data.schema import RawDomain
from crossrec.data.sources.base import RawSource, Source, raw_domain
from crossrec.errors import CrossrecError

Floats = npt.NDArray[np.float64]

_THEMES = [
    *("ocean", "forest", "desert", "winter", "summer", "space", "battle", "romance"),
    *("garden", "music", "history", "science", "family", "travel", "horror", "comedy"),
    *("kitchen", "sport", "dream", "city", "animal", "machine", "magic", "market"),
]
_NOUNS = ["story", "guide", "box", "set", "kit", "song", "scene", "plate", "tale", "game"]


@dataclass(frozen=True)
class Truth:
    """What generated one domain.

    Args:
        users: (n_users, n_factors) tastes of the users in the domain.
        items: (n_items, n_factors).
        bias: (n_items,) popularity, added to every user's score.
        members: (n_users,) indices of the users over all domains.
    """

    users: Floats
    items: Floats
    bias: Floats
    members: npt.NDArray[np.int64]

    @property
    def scores(self) -> Floats:
        """Utility of every item to every user, (n_users, n_items)."""
        return self.users @ self.items.T + self.bias


class Synthetic(Source):
    r"""Low-rank choices with a shared and a domain-specific part of taste.

    A user's taste in domain d is :math:`\sqrt{s}\,z_u + \sqrt{1-s}\,z_{u,d}` with standard normal z and ``s = shared``;
    an item has factors :math:`q_j \sim N(0, I)` and a popularity :math:`b_j`. The user's items are drawn without
    replacement from the softmax of ``signal * <p, q> / sqrt(n_factors) + b`` (Gumbel top-k, Kool et al., ICML 2019);
    their order in time is random, so that a held-out last item is as typical as any. An item's text names the
    factors that are strongest in it, and says its domain.

    Args:
        n_domains: domains, named a, b, c, ...
        n_users: users of a domain; a list gives one number a domain.
        n_items: items of a domain; a list gives one number a domain.
        interactions_per_user: mean number of events of a user in a domain (between half and one and a half of it).
        overlap: share of the smallest domain's users who are in all domains; the others are in one only.
        shared: s above, 0 (nothing carries over) to 1 (one taste everywhere).
        n_factors: rank of the tastes.
        signal: how strongly choices follow taste.
        seed: of everything.
        text: whether items have titles and texts.

    Raises:
        CrossrecError: a value is out of its range.
    """

    name = "synthetic"
    licence = "generated, no restriction"

    def __init__(
        self,
        n_domains: int = 2,
        n_users: int | Sequence[int] = 600,
        n_items: int | Sequence[int] = 300,
        interactions_per_user: int = 20,
        overlap: float = 0.5,
        shared: float = 0.8,
        n_factors: int = 8,
        signal: float = 3.0,
        seed: int = 0,
        text: bool = True,
    ) -> None:
        if not 1 <= n_domains <= 26:
            raise CrossrecError(f"synthetic source: n_domains={n_domains} is not between 1 and 26")
        self.n_users = _per_domain("n_users", n_users, n_domains)
        self.n_items = _per_domain("n_items", n_items, n_domains)
        for key, value in (("overlap", overlap), ("shared", shared)):
            if not 0 <= value <= 1:
                raise CrossrecError(f"synthetic source: {key}={value} is not between 0 and 1")
        if not 1 <= n_factors <= len(_THEMES):
            raise CrossrecError(f"synthetic source: n_factors={n_factors} is not between 1 and {len(_THEMES)}")
        if interactions_per_user < 1 or interactions_per_user * 3 // 2 > min(self.n_items):
            raise CrossrecError(
                f"synthetic source: interactions_per_user={interactions_per_user} needs at least 1 and, as users have "
                f"up to one and a half times as many, n_items of at least {interactions_per_user * 3 // 2}"
            )
        if signal < 0 or seed < 0:
            raise CrossrecError(f"synthetic source: signal={signal} and seed={seed} must not be negative")
        self.n_domains, self.interactions_per_user = n_domains, interactions_per_user
        self.overlap, self.shared, self.n_factors = float(overlap), float(shared), n_factors
        self.signal, self.seed, self.text = float(signal), seed, text

    def files(self) -> list[Path]:
        """Return nothing: no file is read."""
        return []

    def options(self) -> dict[str, Any]:
        """Return all arguments."""
        keys = ("n_domains", "n_users", "n_items", "interactions_per_user", "overlap", "shared", "n_factors", "signal")
        return {k: getattr(self, k) for k in (*keys, "seed", "text")}

    def truth(self) -> list[Truth]:
        """Return the tastes and items that generated each domain."""
        return [self._truth(d) for d in range(self.n_domains)]

    def domain_names(self) -> Sequence[str]:
        """Return a, b, c, ..."""
        return list(string.ascii_lowercase[: self.n_domains])

    def read(self) -> RawSource:
        """Draw all domains; see :class:`Source`."""
        return RawSource([self._domain(d, truth) for d, truth in enumerate(self.truth())])

    def _rng(self, *purpose: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=purpose))

    def _members(self, d: int) -> npt.NDArray[np.int64]:
        common = round(self.overlap * min(self.n_users))
        own = common + sum(n - common for n in self.n_users[:d])
        return np.concatenate([np.arange(common), np.arange(own, own + self.n_users[d] - common)])

    def _truth(self, d: int) -> Truth:
        members = self._members(d)
        common = round(self.overlap * min(self.n_users))
        everyone = common + sum(n - common for n in self.n_users)
        shared = self._rng(0).standard_normal((everyone, self.n_factors))[members]
        rng = self._rng(1, d)
        own = rng.standard_normal(shared.shape)
        taste = np.sqrt(self.shared) * shared + np.sqrt(1 - self.shared) * own
        items = rng.standard_normal((self.n_items[d], self.n_factors))
        bias = 0.5 * rng.standard_normal(self.n_items[d])
        return Truth(self.signal / np.sqrt(self.n_factors) * taste, items, bias, members)

    def _domain(self, d: int, truth: Truth) -> RawDomain:
        rng = self._rng(2, d)
        n_users, n_items = len(truth.members), len(truth.bias)
        low, high = (self.interactions_per_user + 1) // 2, self.interactions_per_user * 3 // 2
        lengths = rng.integers(low, high + 1, n_users)
        noisy = truth.scores + rng.gumbel(size=(n_users, n_items))
        best = np.argsort(-noisy, axis=1, kind="stable")[:, :high]
        rows, positions = np.nonzero(np.arange(high)[None, :] < lengths[:, None])
        # A year of seconds: a user's events come at sorted uniform instants, so all domains share one clock.
        times = np.sort(rng.integers(1_577_836_800, 1_609_372_800, (n_users, high)), axis=1)
        letter = string.ascii_lowercase[d]
        names = pl.Series([f"{letter}{i:05d}" for i in range(n_items)])
        best = np.take_along_axis(best, _shuffled_prefix(lengths, high, rng), axis=1)
        interactions = pl.DataFrame(
            {
                "user": pl.Series([f"u{i:06d}" for i in truth.members.tolist()])[rows],
                "item": names[best[rows, positions]],
                "time": times[rows, positions],
            }
        )
        items = pl.DataFrame({"item": names})
        if self.text:
            items = items.with_columns(**self._texts(letter, truth, rng))
        return raw_domain(letter, interactions, items)

    def _texts(self, letter: str, truth: Truth, rng: np.random.Generator) -> dict[str, pl.Series]:
        # A factor has two words, one a sign; an item's three strongest name it, the strongest first.
        order = np.argsort(-np.abs(truth.items), axis=1)[:, : min(3, self.n_factors)]
        sign = np.take_along_axis(truth.items, order, axis=1) < 0
        words = np.array([[t, f"anti-{t}"] for t in _THEMES], dtype=object)
        chosen = words[order, sign.astype(int)]
        nouns = np.array([f"{letter}-{n}" for n in _NOUNS], dtype=object)[rng.integers(0, len(_NOUNS), len(chosen))]
        number = np.arange(len(chosen)).astype(str).astype(object)
        title = chosen[:, 0] + " " + nouns + " " + number
        text = title + ". domain " + letter + "."
        for column in chosen.T:
            text = text + " " + column
        return {"title": pl.Series(title, dtype=pl.String), "text": pl.Series(text, dtype=pl.String)}


def _shuffled_prefix(lengths: npt.NDArray[np.int64], width: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Permute the first ``lengths[i]`` of ``width`` columns in every row i at random."""
    keys = rng.random((len(lengths), width))
    keys[np.arange(width)[None, :] >= lengths[:, None]] = 2.0
    return np.argsort(keys, axis=1, kind="stable")


def _per_domain(key: str, value: int | Sequence[int], n: int) -> list[int]:
    values = [value] * n if isinstance(value, int) else list(value)
    if len(values) != n or min(values) < 1:
        raise CrossrecError(
            f"synthetic source: {key}={value} needs a positive number, or a list with one for each of {n} domains"
        )
    return values
