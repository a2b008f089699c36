"""Train, validation and test labels of a corpus, made over all domains together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from crossrec.data.ragged import Ids, contained, distinct, group_positions
from crossrec.data.randomness import numpy_generator
from crossrec.data.schema import Corpus
from crossrec.errors import CrossrecError

TRAIN, VALID, TEST, UNUSED = 0, 1, 2, -1
Labels = npt.NDArray[np.int8]
Repeats = Literal["drop", "keep"]


@dataclass(frozen=True)
class Claims:
    """What a split promises; :func:`crossrec.data.leakage.check` proves it.

    Args:
        repeats: a held-out (user, item) may also be a training row.
        instants: first instant of validation and of test; nothing before a stage is as late as it.
        last: held-out rows are the last of their user and domain, or of their user's mixed sequence.
        cold_users: users without any training row in ``cold_domain``.
        cold_domain: index of a domain.
        cold_items: items without any training row.
    """

    repeats: bool = False
    instants: tuple[int, int] | None = None
    last: Literal["domain", "sequence"] | None = None
    cold_users: Ids | None = None
    cold_domain: int | None = None
    cold_items: Ids | None = None


@dataclass(frozen=True)
class Split:
    """One label per interaction.

    Args:
        label: (n_interactions,) int8: 0 train, 1 valid, 2 test, -1 unused.
        ordered: held-out rows come after the rows they are predicted from, so a history ends before them. Otherwise a
            history is all of the user's training rows.
        name: of the splitter.
        checks: what it promises.
        positive: (n_interactions,) bool, rows that are positives, the others being labelled negatives; None: all are.
    """

    label: Labels
    ordered: bool
    name: str
    checks: Claims = field(default_factory=Claims)
    positive: npt.NDArray[np.bool_] | None = None


class Splitter(Protocol):
    """Labels the interactions of a corpus."""

    def __call__(self, corpus: Corpus) -> Split:
        """Return the split of ``corpus``."""
        ...


def row_domains(corpus: Corpus) -> Ids:
    """Domain index of every interaction, (n_interactions,)."""
    domains: Ids = corpus.item_domain[corpus.interactions["item"].to_numpy()]
    return domains


def report(corpus: Corpus, split: Split) -> dict[str, Any]:
    """Rows of every label, users and items of every domain, as plain values."""
    domains, items, users = row_domains(corpus), corpus.interactions["item"], corpus.interactions["user"]
    made = {}
    for d in corpus.domains:
        here = domains == d.index
        counts = np.bincount(split.label[here] + 1, minlength=4)
        made[d.name] = {name: int(n) for name, n in zip(("unused", "train", "valid", "test"), counts)} | {
            "users": users.filter(here).n_unique(),
            "items": d.n_items,
            "train_items": items.filter(here & (split.label == TRAIN)).n_unique(),
        }
        if split.positive is not None:
            made[d.name]["positives"] = int((here & (split.label >= TRAIN) & split.positive).sum())
    return {"name": split.name, "ordered": split.ordered, "domains": made}


def drop_repeats(corpus: Corpus, label: Labels) -> Labels:
    """Set held-out rows to unused whose (user, item) occurs in an earlier stage, or earlier in their own stage.

    Items of earlier stages are left out of a ranking, so such a target could never be found.
    """
    rows = corpus.interactions
    keys = rows["user"].to_numpy() * corpus.n_items + rows["item"].to_numpy()
    label = label.copy()
    for stage in (VALID, TEST):
        held = np.flatnonzero(label == stage)
        earlier = distinct(keys[(label >= TRAIN) & (label < stage)])
        again = group_positions(keys[held])[0] > 0
        label[held[again | contained(keys[held], earlier)]] = UNUSED
    return label


def _finish(corpus: Corpus, label: Labels, repeats: Repeats) -> Labels:
    if repeats not in ("drop", "keep"):
        raise CrossrecError(f"split.repeats is {repeats!r}: choose drop or keep")
    return drop_repeats(corpus, label) if repeats == "drop" else label


def _evaluated(corpus: Corpus, names: Sequence[str] | None) -> npt.NDArray[np.bool_]:
    if names is None:
        return np.ones(corpus.interactions.height, dtype=np.bool_)
    return np.isin(row_domains(corpus), [corpus.domain(name).index for name in names])


def _share(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise CrossrecError(f"split.{name} is {value}: give a share of at least 0 and below 1")
    return float(value)


class LeaveOneOut:
    """Last row is test, the one before it validation.

    Args:
        by: ``domain`` holds out per user and domain, ``sequence`` per user over the mixed sequence.
        min_train: a user (in a domain) with fewer than ``min_train + 2`` rows keeps all of them in train.
        evaluated: names of the domains whose rows are split; rows of the others are all train. None splits all.
        repeats: ``drop`` leaves held-out rows unused whose item the user has in an earlier stage, ``keep`` ranks them.

    Raises:
        CrossrecError: the order of events means nothing in this corpus, or a domain is unknown.
    """

    def __init__(
        self,
        by: Literal["domain", "sequence"] = "domain",
        min_train: int = 1,
        evaluated: Sequence[str] | None = None,
        repeats: Repeats = "drop",
    ) -> None:
        if by not in ("domain", "sequence"):
            raise CrossrecError(f"split.by is {by!r}: choose domain or sequence")
        if min_train < 1:
            raise CrossrecError(f"split.min_train is {min_train}: leave at least 1 row to train on")
        self.by, self.min_train, self.evaluated, self.repeats = by, min_train, evaluated, repeats

    def __call__(self, corpus: Corpus) -> Split:
        """Return the split of ``corpus``."""
        if not corpus.ordered:
            raise CrossrecError("split=leave_one_out needs ordered events, which this source lacks: use split=ratio")
        keys = corpus.interactions["user"].to_numpy().astype(np.int64)
        if self.by == "domain":
            keys = keys * len(corpus.domains) + row_domains(corpus)
        rows = np.flatnonzero(_evaluated(corpus, self.evaluated))
        position, size = group_positions(keys[rows])
        left = size - 1 - position
        enough = size >= self.min_train + 2
        label = np.zeros(len(keys), dtype=np.int8)
        label[rows[enough & (left == 0)]] = TEST
        label[rows[enough & (left == 1)]] = VALID
        label = _finish(corpus, label, self.repeats)
        last = self.by if self.evaluated is None or self.by == "domain" else None
        return Split(label, True, "leave_one_out", Claims(repeats=self.repeats == "keep", last=last))


class Temporal:
    """One instant for all domains: what comes later is held out.

    Args:
        valid: share of all rows, by time, that are validation.
        test: share of all rows, by time, that are test.
        valid_from: first instant of validation, in the corpus's time unit, instead of ``valid``.
        test_from: first instant of test instead of ``test``.
        repeats: as in :class:`LeaveOneOut`.

    Raises:
        CrossrecError: times of different users cannot be compared, or the instants are out of order.
    """

    def __init__(
        self,
        valid: float = 0.1,
        test: float = 0.1,
        valid_from: int | None = None,
        test_from: int | None = None,
        repeats: Repeats = "drop",
    ) -> None:
        self.valid, self.test = _share("valid", valid), _share("test", test)
        self.valid_from, self.test_from, self.repeats = valid_from, test_from, repeats

    def __call__(self, corpus: Corpus) -> Split:
        """Return the split of ``corpus``."""
        if not corpus.timed:
            raise CrossrecError("split=temporal needs instants that compare between users, which this source lacks")
        time = corpus.interactions["time"].to_numpy()
        if not len(time):
            raise CrossrecError("split=temporal found no interaction to split")
        ordered = np.sort(time)

        def instant(held: float) -> int:
            return int(ordered[min(int(np.floor(len(time) * (1 - held))), len(time) - 1)])

        test_from = instant(self.test) if self.test_from is None else self.test_from
        valid_from = instant(self.valid + self.test) if self.valid_from is None else self.valid_from
        if valid_from > test_from:
            raise CrossrecError(f"split.valid_from={valid_from} is later than split.test_from={test_from}: swap them")
        label = np.where(time >= test_from, TEST, np.where(time >= valid_from, VALID, TRAIN)).astype(np.int8)
        claims = Claims(repeats=self.repeats == "keep", instants=(valid_from, test_from))
        return Split(_finish(corpus, label, self.repeats), True, "temporal", claims)


class Ratio:
    """Random shares of every user's rows in every domain.

    Counts follow RecBole's ``group_by: user``: validation and test get ``floor(n * share)`` rows and train the
    rest; then test, and after it validation, gets one row where its share is below one row and train has more than one.

    Args:
        train: share of train; the three shares are normalised by their sum.
        valid: share of validation.
        test: share of test.
        seed: of the shuffle.
        evaluated: as in :class:`LeaveOneOut`.
        repeats: as in :class:`LeaveOneOut`.

    Raises:
        CrossrecError: a share is negative or none is left for training, or a domain is unknown.
    """

    def __init__(
        self,
        train: float = 0.8,
        valid: float = 0.1,
        test: float = 0.1,
        seed: int = 0,
        evaluated: Sequence[str] | None = None,
        repeats: Repeats = "drop",
    ) -> None:
        if min(valid, test) < 0 or train <= 0:
            raise CrossrecError(f"split shares are {train}, {valid}, {test}: train must be positive, no share negative")
        total = train + valid + test
        self.shares = (train / total, valid / total, test / total)
        self.seed, self.evaluated, self.repeats = seed, evaluated, repeats

    def counts(self, size: Ids) -> tuple[Ids, Ids]:
        """Number of validation and test rows of groups of ``size`` (n,) rows."""
        _, share_v, share_t = self.shares
        valid, test = np.floor(size * share_v).astype(np.int64), np.floor(size * share_t).astype(np.int64)
        more = (size - valid - test > 1) & (size * share_t < 1) & (share_t > 0)
        test = test + more
        more = (size - valid - test > 1) & (size * share_v < 1) & (share_v > 0)
        return valid + more, test

    def __call__(self, corpus: Corpus) -> Split:
        """Return the split of ``corpus``."""
        users = corpus.interactions["user"].to_numpy().astype(np.int64)
        rows = np.flatnonzero(_evaluated(corpus, self.evaluated))
        rows = numpy_generator(self.seed, "ratio").permutation(rows)
        position, size = group_positions((users * len(corpus.domains) + row_domains(corpus))[rows])
        valid, test = self.counts(size)
        label = np.zeros(len(users), dtype=np.int8)
        label[rows] = np.where(position >= size - test, TEST, np.where(position >= size - test - valid, VALID, TRAIN))
        return Split(_finish(corpus, label, self.repeats), False, "ratio", Claims(repeats=self.repeats == "keep"))


class Fixed:
    """The split that a source ships with its interactions.

    Args:
        repeats: as in :class:`LeaveOneOut`.

    Raises:
        CrossrecError: the source ships none.
    """

    def __init__(self, repeats: Repeats = "drop") -> None:
        self.repeats: Repeats = repeats

    def __call__(self, corpus: Corpus) -> Split:
        """Return the split of ``corpus``."""
        if corpus.fixed is None:
            raise CrossrecError("split=fixed needs a source that ships its split, which this one does not: use another")
        label = _finish(corpus, corpus.fixed.astype(np.int8), self.repeats)
        return Split(label, corpus.ordered, "fixed", Claims(repeats=self.repeats == "keep"))
