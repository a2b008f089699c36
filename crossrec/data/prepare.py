"""Raw files to a prepared corpus, once: named by the content it was made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import polars as pl

from crossrec.data.corpus_files import FORMAT, load_corpus, save_corpus
from crossrec.data.filtering import Duplicates, filter_interactions, k_core
from crossrec.data.schema import MODALITIES, USER_FIELDS, Corpus, Domain, RawDomain
from crossrec.data.sources.base import Source
from crossrec.data.sources.hashing import file_hashes
from crossrec.errors import CrossrecError


def prepare(
    source: Source,
    *,
    cache_dir: Path,
    min_rating: float | None = None,
    user_core: int = 0,
    item_core: int = 0,
    duplicates: Duplicates = "keep",
    core_per_domain: bool = True,
    keep_unseen_items: bool = False,
) -> Corpus:
    """Return the corpus of a source, read from ``cache_dir`` where it was prepared before.

    The folder is ``<cache_dir>/<source>-<12 hex>``; the hash covers the raw files' bytes, the source's options, the
    options below and the format's version. Two processes may prepare the same corpus at once.

    Args:
        source: what to read.
        cache_dir: where prepared corpora lie.
        min_rating: lowest rating that counts; None for all.
        user_core: fewest interactions of a user.
        item_core: fewest interactions of an item.
        duplicates: of several rows of one user and item, ``keep`` all or the ``first`` or ``last``.
        core_per_domain: a user's interactions are counted in each domain, or else over all domains together (an item
            belongs to one domain in any case).
        keep_unseen_items: keep items of the item tables which no interaction names.

    Raises:
        CrossrecError: a file or an option is wrong, or a domain has no interaction left.
    """
    filters: dict[str, Any] = {
        "min_rating": min_rating,
        "user_core": user_core,
        "item_core": item_core,
        "duplicates": duplicates,
        "core_per_domain": core_per_domain,
        "keep_unseen_items": keep_unseen_items,
    }
    cache_dir = Path(cache_dir)
    content, address = _content(source, cache_dir, filters)
    folder = cache_dir / f"{source.name}-{address[:12]}"
    if not (folder / "corpus.json").is_file():
        raw = source.read()
        domains, removed = filter_domains(
            raw.domains, min_rating=min_rating, user_core=user_core, item_core=item_core, duplicates=duplicates,
            core_per_domain=core_per_domain,
        )  # fmt: skip
        provenance = {
            **content,
            "fingerprint": address,
            "folder": folder.name,
            "licence": source.licence,
            "dropped": raw.counts(),
            "filtered": removed,
        }
        corpus = build_corpus(
            domains,
            timed=source.timed,
            ordered=source.ordered,
            keep_unseen_items=keep_unseen_items,
            provenance=provenance,
        )
        save_corpus(corpus, folder)
    return load_corpus(folder)


def fingerprint(source: Source, *, cache_dir: Path, **options: Any) -> str:
    """Content address of the corpus that :func:`prepare` with the same arguments returns; none is prepared.

    Raises:
        CrossrecError: a raw file is missing and cannot be fetched.
    """
    bound = signature(prepare).bind(source, cache_dir=cache_dir, **options)
    bound.apply_defaults()
    filters = {k: v for k, v in bound.arguments.items() if k not in ("source", "cache_dir")}
    return _content(source, Path(cache_dir), filters)[1]


def _content(source: Source, cache_dir: Path, filters: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Everything that decides what a corpus holds, and its hash."""
    files = file_hashes(source.files(), cache_dir)
    if filters["min_rating"] is not None:  # 3 and 3.0 are one corpus
        filters = {**filters, "min_rating": float(filters["min_rating"])}
    content = {"format": FORMAT, "source": source.name, "options": source.options(), "files": files, "filter": filters}
    return content, hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def filter_domains(
    domains: Sequence[RawDomain],
    *,
    min_rating: float | None = None,
    user_core: int = 0,
    item_core: int = 0,
    duplicates: Duplicates = "keep",
    core_per_domain: bool = True,
) -> tuple[list[RawDomain], dict[str, dict[str, int]]]:
    """Filter every domain (arguments as :func:`prepare`).

    Returns:
        The domains, and by domain how many rows each step removed.

    Raises:
        CrossrecError: a domain has no interaction left.
    """
    core = (user_core, item_core) if core_per_domain else (0, 0)
    results = [filter_interactions(d.interactions, min_rating, *core, duplicates) for d in domains]
    frames, counts = [frame for frame, _ in results], [count for _, count in results]
    if not core_per_domain:
        together = pl.concat([f.with_columns(domain=pl.lit(i)) for i, f in enumerate(frames)], how="diagonal")
        left = k_core(together, user_core, item_core, ("domain", "item"))
        for i, frame in enumerate(frames):
            frames[i] = left.filter(pl.col("domain") == i).select(frame.columns)
            counts[i]["k-core"] = frame.height - frames[i].height
    for domain, frame, count in zip(domains, frames, counts):
        if not frame.height:
            steps = ", ".join(f"{k}: {v:,}" for k, v in count.items() if v) or "it had none"
            raise CrossrecError(
                f"domain {domain.name!r} has no interaction left of {domain.interactions.height:,} ({steps}): "
                "lower min_rating, user_core or item_core"
            )
    kept = [replace(d, interactions=f) for d, f in zip(domains, frames)]
    return kept, {d.name: c for d, c in zip(domains, counts)}


def build_corpus(
    domains: Sequence[RawDomain],
    *,
    timed: bool = True,
    ordered: bool = True,
    keep_unseen_items: bool = False,
    provenance: Mapping[str, Any] | None = None,
) -> Corpus:
    """Assign ids: a domain's items are one range, sorted by name; users are sorted by name over all domains.

    Args:
        domains: what a source read, filtered.
        timed: see :class:`Corpus`.
        ordered: see :class:`Corpus`.
        keep_unseen_items: keep items of the item tables which no interaction names.
        provenance: plain JSON values.

    Raises:
        CrossrecError: a domain's name occurs twice, or a row has no user or no item.
    """
    names = [d.name for d in domains]
    if not names or len(set(names)) < len(names):
        raise CrossrecError(
            f"a corpus needs at least one domain, and distinct names; found {', '.join(names) or 'none'}"
        )
    for name in names:
        if name in ("all", "macro") or "/" in name or name.startswith("."):
            raise CrossrecError(
                f"a domain cannot be called {name!r}: all, macro, a slash and a leading dot mean other things"
            )
    ranges: list[Domain] = []
    tables, rows = [], []
    start = 0
    for index, raw in enumerate(domains):
        if raw.interactions.select(pl.any_horizontal(pl.col("user", "item").is_null().any())).item():
            raise CrossrecError(f"domain {raw.name!r} has an interaction without user or item")
        seen = raw.interactions.select(pl.col("item").unique())
        catalogue = pl.concat([seen, raw.items.select("item")]).unique() if keep_unseen_items else seen
        table = catalogue.sort("item").join(raw.items, on="item", how="left", maintain_order="left")
        if table.height != catalogue.height:
            raise CrossrecError(f"domain {raw.name!r}: an item has two rows in the item table")
        table = table.rename({"item": "name"}).with_columns(
            item=pl.int_range(start, start + table.height, dtype=pl.Int64)
        )
        tables.append(table.with_columns(domain=pl.lit(index, dtype=pl.Int64)))
        extras = [c for c in ("split", "order") if c in raw.interactions.columns]
        rows.append(
            raw.interactions.select("user", "item", "rating", "time", *extras)
            .join(
                table.select(pl.col("name"), pl.col("item").alias("id")),
                left_on="item",
                right_on="name",
                how="left",
                maintain_order="left",
            )
            .select("user", pl.col("id").alias("item"), "rating", "time", *extras)
        )
        ranges.append(Domain(raw.name, index, start, start + table.height))
        start += table.height
    events = pl.concat(rows, how="diagonal")
    users = (
        events.select(name=pl.col("user").unique().sort())
        .with_row_index("user")
        .with_columns(pl.col("user").cast(pl.Int64))
    )
    events = events.rename({"user": "name"}).join(users, on="name", how="left", maintain_order="left")
    keys = ["user", "time", *(["order"] if "order" in events.columns else [])]
    events = events.sort(keys, maintain_order=True)
    fixed = events["split"].fill_null(-1).to_numpy().copy() if "split" in events.columns else None
    return Corpus(
        domains=tuple(ranges),
        interactions=events.select("user", "item", pl.col("rating").cast(pl.Float32), pl.col("time").cast(pl.Int64)),
        items=_with_entities(pl.concat(tables, how="diagonal")),
        users=_described(users.select("user", "name"), domains),
        timed=timed,
        ordered=ordered,
        fixed=fixed,
        provenance=dict(provenance or {}),
    )


def _described(users: pl.DataFrame, domains: Sequence[RawDomain]) -> pl.DataFrame:
    """Add what the domains tell of their users; of a field that two of them tell the first counts."""
    told = [d.users for d in domains if d.users is not None]
    if not told:
        return users
    table = pl.concat(told, how="diagonal").rename({"user": "name"})
    table = table.group_by("name").agg(pl.all().drop_nulls().first())
    fields = [field for field in USER_FIELDS if field in table.columns]
    return users.join(table, on="name", how="left", maintain_order="left").select("user", "name", *fields)


def _with_entities(items: pl.DataFrame) -> pl.DataFrame:
    """Number the things behind the items: equal names of an entity share a number, items without one have their own."""
    named = pl.col("entity") if "entity" in items.columns else pl.lit(None, dtype=pl.String)
    key = pl.struct(named.alias("entity"), pl.when(named.is_null()).then(pl.col("item")).alias("own"))
    first = items.select(first=pl.col("item").min().over(key))["first"]
    items = items.with_columns(entity=first.rank("dense").cast(pl.Int64) - 1)
    modalities = [m for m in MODALITIES if m in items.columns]
    return items.select("item", "domain", "name", "entity", *modalities)
