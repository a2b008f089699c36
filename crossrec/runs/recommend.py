"""Ranked lists from a finished run: for its users, or for a history that is typed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from crossrec.data.batches import PAD, QueryBatch
from crossrec.data.schema import Corpus, Domain
from crossrec.errors import CrossrecError
from crossrec.evaluation.ranking import top_k
from crossrec.runs.assemble import Assembly, load_run
from crossrec.suggestions import nearest

CHUNK_SCORES = 32_000_000
"""Scores held at once; users are ranked in chunks of this many."""


def recommend_users(
    path: Path, names: Sequence[str] | None, k: int, domain: str | None, *, exclude_seen: bool = True
) -> pl.DataFrame:
    """Rank for known users, from everything they did.

    Args:
        path: run folder.
        names: user names; None for every user of the domains that the run trained on or was tested in.
        k: list length.
        domain: domain to recommend in, one that trained or was tested; None for the run's target, or all it was tested
            in.
        exclude_seen: leave out what the user already has.

    Returns:
        Columns ``user, domain, rank, item, title, score``; ``title`` only where the corpus has titles.

    Raises:
        CrossrecError: an unknown user or domain.
    """
    _, parts = load_run(path)
    users = _users(parts, names)
    history = parts.datamodule.history_of(users)
    frames = [_ranked(parts, d, users, history, k, exclude_seen) for d in _domains(parts, domain)]
    return pl.concat(frames).sort("order", "domain", "rank").drop("order")


def recommend_history(
    path: Path, items: Sequence[str], k: int, domain: str | None, *, exclude_seen: bool = True
) -> pl.DataFrame:
    """Rank for a user who is not in the data, from a history of item names or titles, oldest first.

    Raises:
        CrossrecError: an unknown item, or a run whose users are looked up by id.
    """
    _, parts = load_run(path)
    if not parts.datamodule.uses_history:
        raise CrossrecError(
            "this run knows users by id only, so it cannot rank for a typed history;"
            " train with user_encoder=mean, attention or transformer"
        )
    users, frames = torch.zeros(1, dtype=torch.long), []
    for d in _domains(parts, domain):
        history = _items(parts, items, d).unsqueeze(0)
        frames.append(_ranked(parts, d, users, history, k, exclude_seen, typed=True))
    return pl.concat(frames).drop("order")


def _domains(parts: Assembly, name: str | None) -> list[Domain]:
    domains, data = parts.corpus.domains, parts.datamodule
    if name is not None:
        chosen, known = parts.corpus.domain(name), [domains[i] for i in data.read_indices]
        if chosen not in known:
            raise CrossrecError(f"this run did not train on {name!r}; it knows {', '.join(d.name for d in known)}")
        return [chosen]
    tested = [domains[i] for i in data.eval_indices]
    return tested if parts.model.target is None else [domains[parts.model.target]]


def _users(parts: Assembly, names: Sequence[str] | None) -> Tensor:
    corpus = parts.corpus
    if names is None:
        return torch.from_numpy(np.flatnonzero(corpus.membership[:, parts.datamodule.read_indices].any(1)))
    if not names:
        raise CrossrecError("no user is named: give a name a line in the users file, or leave it out for all users")
    found = pl.DataFrame({"name": list(names)}, schema={"name": pl.String}).join(
        corpus.users, on="name", how="left", maintain_order="left"
    )
    missing = found.filter(pl.col("user").is_null())["name"]
    if len(missing):
        raise CrossrecError(
            f"no user {missing[0]!r} in this corpus{nearest(missing[0], corpus.users['name'].to_list()[:50000])}"
        )
    users = found["user"].to_numpy().copy()
    unknown = ~corpus.membership[users][:, parts.datamodule.read_indices].any(1)
    if unknown.any():
        raise CrossrecError(
            f"user {names[int(unknown.argmax())]!r} did nothing in the domains that this run reads: "
            "recommend by --history, or from a run that trains on all domains"
        )
    return torch.from_numpy(users)


def _items(parts: Assembly, names: Sequence[str], domain: Domain) -> Tensor:
    """Ids of typed items, by name, title or title without its year; of ``domain`` before others that are read."""
    if not names:
        raise CrossrecError("the history is empty: name at least one item, separated by ';'")
    table = parts.corpus.items.filter(pl.col("domain").is_in(parts.datamodule.read_indices))
    table = table.sort(pl.col("domain") != domain.index, maintain_order=True)
    column = "title" if "title" in table.columns else "name"
    titles = table[column].str.to_lowercase()
    short = titles.str.replace(r"\s*\(\d{4}\)$", "")
    ids = []
    for name in names:
        same = [table.filter(s == n) for s, n in ((table["name"], name), (titles, name.lower()), (short, name.lower()))]
        match = next((m for m in same if m.height), None)
        if match is None:
            known = [t for t in table[column].drop_nulls().to_list() if t[:1].lower() == name[:1].lower()]
            raise CrossrecError(f"no item {name!r} in the domains of this run{nearest(name, known[:20000])}")
        several = match[column].unique(maintain_order=True).to_list()
        if match is same[2] and len(several) > 1:
            raise CrossrecError(f"{name!r} may be {', '.join(several[:5])}: write one of these in full")
        ids.append(int(match["item"][0]))
    return torch.tensor(ids)


@torch.no_grad()
def _ranked(
    parts: Assembly, domain: Domain, users: Tensor, history: Tensor, k: int, exclude_seen: bool, typed: bool = False
) -> pl.DataFrame:
    parts.model.eval()
    columns, scores = [], []
    step = max(1, CHUNK_SCORES // max(domain.n_items, 1))
    for start in range(0, len(users), step):
        part = slice(start, start + step)
        empty = torch.full((len(users[part]), 0), PAD)
        if not exclude_seen:
            seen = empty
        elif typed:
            inside = (history[part] >= domain.start) & (history[part] < domain.stop)
            seen = torch.where(inside, history[part], PAD)
        else:
            seen = parts.datamodule.items_of(users[part], domain.index)
        batch = QueryBatch(
            users=users[part], history=history[part], relevant=empty, seen=seen, candidates=empty, domain=domain.index,
            cold=torch.zeros(len(users[part]), dtype=torch.bool),
        )  # fmt: skip
        values = parts.model.score(replace(batch, history=batch.history[:, -parts.datamodule.history_length :])).float()
        local = seen - domain.start
        allowed = torch.ones_like(values, dtype=torch.bool)
        rows = torch.arange(len(values)).unsqueeze(1).expand_as(local)[seen != PAD]
        allowed[rows, local[seen != PAD]] = False
        top = top_k(values, allowed, min(k, domain.n_items))
        columns.append(top)
        scores.append(values.gather(1, top.clamp_min(0)))
    return _frame(parts.corpus, domain, users, torch.cat(columns), torch.cat(scores), typed)


def _frame(corpus: Corpus, domain: Domain, users: Tensor, top: Tensor, scores: Tensor, typed: bool) -> pl.DataFrame:
    n, k = top.shape
    keep = (top != PAD).flatten().numpy()
    items = (top.clamp_min(0) + domain.start).flatten().numpy()
    names = pl.Series(["(history)"]) if typed else corpus.users["name"]
    frame = pl.DataFrame(
        {
            "order": np.repeat(np.arange(n), k),
            "user": names[np.repeat(users.numpy(), k)],
            "domain": pl.Series([domain.name]).new_from_index(0, n * k),
            "rank": np.tile(np.arange(1, k + 1), n),
            "item": corpus.items["name"][items],
            "score": scores.flatten().numpy(),
        }
    )
    if "title" in corpus.items.columns:
        frame.insert_column(5, corpus.items["title"][items].alias("title"))
    return frame.filter(pl.Series(keep))
