"""Proof, on every run, that a split keeps what it promises."""

from __future__ import annotations

import numpy as np

from crossrec.data.ragged import Ids, contained, distinct
from crossrec.data.schema import Corpus
from crossrec.data.splits import TEST, TRAIN, UNUSED, VALID, Split, row_domains
from crossrec.errors import CrossrecError


def check(corpus: Corpus, split: Split) -> None:
    """Raise unless ``split`` is free of leakage.

    Always: one label in -1..2 per interaction, a training row and a held-out row exist, and no held-out (user, item) is
    in an earlier stage (unless the split keeps repeats). By the split's claims: no row of a stage is as late as the
    next stage (temporal), held-out rows are the last (leave-one-out), no cold user trains in the target and no cold
    item trains.

    Raises:
        CrossrecError: names the split, what is wrong and the first row, user or item where it is.
    """
    label, name, claims = split.label, split.name, split.checks
    if label.shape != (corpus.interactions.height,):
        raise CrossrecError(f"split {name} has {len(label)} labels for {corpus.interactions.height} interactions")
    bad = np.flatnonzero((label < UNUSED) | (label > TEST))
    if len(bad):
        raise CrossrecError(f"split {name} gives row {bad[0]} the label {label[bad[0]]}: labels are -1, 0, 1, 2")
    if not (label == TRAIN).any():
        raise CrossrecError(f"split {name} leaves no training row: hold out less, or filter the data less")
    if not (label > TRAIN).any():
        raise CrossrecError(f"split {name} holds no row out: its users have too few rows, or its shares are 0")
    users = corpus.interactions["user"].to_numpy()
    items = corpus.interactions["item"].to_numpy()
    if not claims.repeats:
        _no_repeats(corpus, split, users * corpus.n_items + items)
    if claims.instants is not None:
        _no_future(corpus, split, claims.instants)
    if claims.last is not None:
        _last(split, users if claims.last == "sequence" else users * len(corpus.domains) + row_domains(corpus))
    if claims.cold_users is not None:
        trained = users[(label == TRAIN) & (row_domains(corpus) == claims.cold_domain)]
        _absent(corpus.users["name"], trained, claims.cold_users, f"split {name}: cold user")
    if claims.cold_items is not None:
        _absent(corpus.items["name"], items[label == TRAIN], claims.cold_items, f"split {name}: cold item")


def _no_repeats(corpus: Corpus, split: Split, keys: Ids) -> None:
    for stage in (VALID, TEST):
        held = np.flatnonzero(split.label == stage)
        earlier = keys[(split.label >= TRAIN) & (split.label < stage)]
        found = held[contained(keys[held], distinct(earlier))]
        if len(found):
            user, item = divmod(int(keys[found[0]]), corpus.n_items)
            raise CrossrecError(
                f"split {split.name}: {len(found)} held-out rows are also in an earlier stage, first row {found[0]} "
                f"(user {corpus.users['name'][user]!r}, item {corpus.items['name'][item]!r}): set split.repeats=drop"
            )


def _no_future(corpus: Corpus, split: Split, instants: tuple[int, int]) -> None:
    time, label = corpus.interactions["time"].to_numpy(), split.label
    late = (label == TRAIN) & (time >= instants[0]) | (label == VALID) & (time >= instants[1])
    early = (label == VALID) & (time < instants[0]) | (label == TEST) & (time < instants[1])
    rows = np.flatnonzero(late | early)
    if len(rows):
        raise CrossrecError(
            f"split {split.name}: row {rows[0]} at instant {time[rows[0]]} is on the wrong side of the cuts {instants}"
        )


def _last(split: Split, keys: Ids) -> None:
    """Rows are in the user's order, so positions compare as times do."""
    groups, group = np.unique(keys, return_inverse=True)
    rows = np.arange(len(keys))
    latest = np.full((3, len(groups)), -1, dtype=np.int64)
    for stage in (TRAIN, VALID, TEST):
        chosen = split.label == stage
        if stage != TRAIN:
            early = np.flatnonzero(chosen & (rows < latest[:stage].max(axis=0)[group]))
            crowded = np.flatnonzero(np.bincount(group[chosen], minlength=len(groups)) > 1)
            if len(early) or len(crowded):
                where = f"row {early[0]}" if len(early) else f"group {crowded[0]} with several rows"
                raise CrossrecError(f"split {split.name}: {where} is held out but not the last of its user")
        np.maximum.at(latest[stage], group[chosen], rows[chosen])


def _absent(names: object, trained: Ids, cold: Ids, what: str) -> None:
    found = np.intersect1d(trained, cold)
    if len(found):
        raise CrossrecError(f"{what} {names[int(found[0])]!r} has a training row ({len(found)} have)")  # type: ignore[index]
