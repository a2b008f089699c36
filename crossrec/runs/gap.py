"""The domain gap of a run, before and after training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from crossrec.data.datamodule import MultiDomainDataModule
from crossrec.data.randomness import numpy_generator
from crossrec.data.schema import Corpus
from crossrec.data.trained import train_rows
from crossrec.errors import CrossrecError
from crossrec.evaluation.gap import LEAST, RESAMPLES, Gap, domain_gap
from crossrec.runs.assemble import Assembly, assemble, load_run
from crossrec.runs.handover import hand_over
from crossrec.runs.identity import beginning
from crossrec.runs.store import RunFolder, write_json
from crossrec.strategies.base import Strategy

ROWS = 1000
"""Users, and items, of each domain that are compared at most."""

CHUNK = 256
"""Users encoded at once."""

DIGITS = 8
"""Decimals that are kept: further ones are rounding, and change with the number of threads."""

SPACES = ("users", "items")


@dataclass(frozen=True)
class Rows:
    """Users or items of one domain, and their vectors.

    Args:
        ids: (n,) user ids, or entities of items; ascending.
        before: (n, f) with the weights that training began from.
        after: (n, f) with those of the selected epoch.
    """

    ids: Tensor
    before: Tensor
    after: Tensor


@dataclass(frozen=True)
class PairGap:
    """Gap of two training domains in one space.

    Args:
        space: ``users`` or ``items``.
        pair: names of the domains.
        rows: rows of each.
        shared: ids that are among the rows of both.
        before: with the weights that training began from.
        after: with those of the selected epoch.
    """

    space: str
    pair: tuple[str, str]
    rows: tuple[int, int]
    shared: int
    before: Gap
    after: Gap


@dataclass(frozen=True)
class RunGap:
    """What is measured of a run.

    Args:
        run: its folder.
        users: what stands for a user: words.
        vectors: space -> name of a domain -> its rows.
        pairs: users first, then items.
    """

    run: RunFolder
    users: str
    vectors: Mapping[str, Mapping[str, Rows]]
    pairs: list[PairGap]


def measure(path: Path, rows: int = ROWS) -> RunGap:
    """Measure the gap of every pair of training domains, for users and for items.

    Compared are users and items with a training row in the domain, at most ``rows`` of each. All are put in one random
    order, always the same, and a domain shows the first of its own: so runs on the same corpus show the same, and
    domains that share many users show many of the same. Before: the weights that the seed gives or ``init.from`` handed
    over. After: the selected epoch's. Vectors are those that are scored: ``users_in`` and ``item_vectors`` of the
    strategy. Items that are the same thing in two domains count as one id.

    Args:
        path: run folder.
        rows: see above.

    Raises:
        CrossrecError: the run is not finished, has no training, trained on one domain, or shows too few rows; or the
            weights that it began with are gone.
    """
    if rows < LEAST:
        raise CrossrecError(f"--rows is {rows}: give at least {LEAST}")
    run, after = load_run(path)
    data, domains = after.datamodule, after.corpus.domains
    if not after.model.trains:
        name = type(after.model).__name__
        raise CrossrecError(
            f"run {run.id} has no vectors that training moves ({name} does not train): give another run"
        )
    names = {index: domains[index].name for index in data.train_indices}
    if len(names) < 2:
        raise CrossrecError(
            f"run {run.id} trained on {next(iter(names.values()))!r} alone, so there is no gap between training"
            " domains: give a run of a strategy that trains on several, such as merged or mmd"
        )
    before = _beginning(run, after.corpus)
    vectors = {
        space: {name: _rows(run, space, index, rows, before, after) for index, name in names.items()}
        for space in SPACES
    }
    pairs = [
        _pair(space, (a, b), shown[a], shown[b]) for space, shown in vectors.items() for a, b in combinations(shown, 2)
    ]
    history = f"the state after the user's last {data.history_length} training rows in all training domains"
    return RunGap(run, history if data.uses_history else "the vector of the user's id", vectors, pairs)


def write(made: RunGap) -> Path:
    """Write ``gap.json`` into the run's folder; the same run gives the same bytes."""
    path = made.run.path / "gap.json"
    pairs = [asdict(pair) for pair in made.pairs]
    write_json(path, {"run": made.run.id, "user_vector": made.users, "resamples": RESAMPLES, "pairs": pairs})
    return path


def _beginning(run: RunFolder, corpus: Corpus) -> Assembly:
    """Build a run's objects as training began with them.

    The run that handed weights over is where ``init.from`` says, or beside this one, as in a copied folder of runs.
    """
    config = run.config
    made = assemble(config, corpus)
    if (init := beginning(config)) is None:
        return made
    source = Path(init["from"])
    beside = run.path.parent / source.name
    given = source if source.is_dir() or not beside.is_dir() else beside
    if not given.is_dir():
        raise CrossrecError(
            f"run {run.id} began with the weights of {source}, which is gone, so its gap before training is lost: put "
            f"that folder back, there or as {beside}"
        )
    found = hand_over(made.model, {**config, "init": {**init, "from": str(given)}}, corpus)
    known = run.metrics.get("init")
    if known is not None and known["sha256"] != found.sha256:
        raise CrossrecError(
            f"run {run.id} began with other weights than {given} has now, so its gap before training is lost: train it "
            "again from these"
        )
    return made


def _rows(run: RunFolder, space: str, domain: int, most: int, before: Assembly, after: Assembly) -> Rows:
    data = after.datamodule
    ids = _drawn(data, space, domain, most, after.model.entities)
    things = ids if space == "users" else after.model.entities[ids]
    if len(torch.unique(things)) < LEAST:
        raise CrossrecError(
            f"domain {data.corpus.domains[domain].name!r} of run {run.id} has {len(torch.unique(things))} {space} with"
            f" training rows: a gap needs {LEAST}"
        )
    both = []
    for model in (before.model, after.model):
        made = _encoded(model, data, space, domain, ids)
        if not bool(made.isfinite().all()):
            raise CrossrecError(f"run {run.id} has {space} whose vectors are not finite: train it again, more gently")
        both.append(made)
    return Rows(things, *both)


def _drawn(data: MultiDomainDataModule, space: str, domain: int, most: int, entities: Tensor) -> Tensor:
    """Ids of at most ``most`` users or items with a training row in the domain, ascending by id or entity."""
    here = train_rows(data.corpus, data.split, [domain])
    known = np.unique(data.corpus.interactions["user" if space == "users" else "item"].to_numpy()[here])
    things = known if space == "users" else entities.numpy()[known]
    count = data.corpus.n_users if space == "users" else int(entities.max()) + 1
    order = numpy_generator(0, "gap", space).permutation(count)[things]
    chosen = np.argsort(order, kind="stable")[:most]
    return torch.from_numpy(known[chosen[np.argsort(things[chosen], kind="stable")]])


@torch.no_grad()
def _encoded(model: Strategy, data: MultiDomainDataModule, space: str, domain: int, ids: Tensor) -> Tensor:
    """Vectors (n, f) that are scored."""
    model.eval()
    if space == "items":
        return model.item_vectors(ids)
    made = []
    for users in torch.split(ids, CHUNK):
        history = data.history_of(users, trained=True)
        vectors = model.encode_users(users, history, domain)
        made.append(model.users_in(vectors, torch.full_like(users, domain)))
    return torch.cat(made)


def _pair(space: str, pair: tuple[str, str], a: Rows, b: Rows) -> PairGap:
    shared = int(torch.isin(torch.unique(a.ids), b.ids).sum())
    before, after = (
        Gap(**{name: round(value, DIGITS) + 0.0 for name, value in asdict(gap).items()})  # + 0.0: no -0.0
        for gap in (domain_gap(x, y, a.ids, b.ids) for x, y in ((a.before, b.before), (a.after, b.after)))
    )
    return PairGap(space, pair, (len(a.ids), len(b.ids)), shared, before, after)
