"""A prepared corpus on disk: written whole or not at all, read memory-mapped."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path

import polars as pl

from crossrec.data.schema import Corpus, Domain
from crossrec.errors import CrossrecError

FORMAT = 1
"""Version of the prepared files and of the readers; a change makes every corpus anew."""


def save_corpus(corpus: Corpus, folder: Path) -> None:
    """Write a corpus as a folder, whole or not at all; one that another process finished first is left as it is."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}"
    temporary.mkdir()
    try:
        events = corpus.interactions
        if corpus.fixed is not None:
            events = events.with_columns(split=pl.Series(corpus.fixed))
        for name, frame in (("interactions", events), ("items", corpus.items), ("users", corpus.users)):
            frame.write_parquet(temporary / f"{name}.parquet", compression="uncompressed")
        about = {
            "format": FORMAT,
            "domains": [{"name": d.name, "start": d.start, "stop": d.stop} for d in corpus.domains],
            "timed": corpus.timed,
            "ordered": corpus.ordered,
            "provenance": dict(corpus.provenance),
        }
        (temporary / "corpus.json").write_text(json.dumps(about, indent=1, sort_keys=True))
        try:
            os.rename(temporary, folder)
        except OSError:
            if not (folder / "corpus.json").is_file():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_corpus(folder: Path) -> Corpus:
    """Read a folder that :func:`prepare` wrote.

    Raises:
        CrossrecError: the folder is none, or is of another version, or damaged.
    """
    folder = Path(folder)
    try:
        about = json.loads((folder / "corpus.json").read_text())
        if about["format"] != FORMAT:
            raise CrossrecError(f"{folder} was prepared by another version of crossrec: delete it and prepare it again")
        events, items, users = (
            pl.read_parquet(folder / f"{name}.parquet", memory_map=True) for name in ("interactions", "items", "users")
        )
        domains = tuple(Domain(d["name"], i, d["start"], d["stop"]) for i, d in enumerate(about["domains"]))
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError):
        raise CrossrecError(
            f"{folder} is not a prepared corpus, or is damaged: delete it and prepare it again"
        ) from None
    fixed = events["split"].to_numpy() if "split" in events.columns else None
    return Corpus(
        domains=domains,
        interactions=events.select("user", "item", "rating", "time"),
        items=items,
        users=users,
        timed=about["timed"],
        ordered=about["ordered"],
        fixed=fixed,
        provenance=about["provenance"],
    )
