"""From a resolved config to its prepared corpus; apart from the models, so that a run's id is known without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from crossrec.annotations import parameters
from crossrec.config import build
from crossrec.data.corpus_files import load_corpus
from crossrec.data.prepare import fingerprint, prepare
from crossrec.data.schema import Corpus
from crossrec.data.sources.base import Source
from crossrec.errors import CrossrecError
from crossrec.runs.config_check import check_node, check_options
from crossrec.runs.store import RunFolder

FILTER = {name: kind for name, kind in parameters(prepare)[0].items() if name not in ("source", "cache_dir")}
"""Options of ``data.filter``, and their types."""


def source_of(data: Mapping[str, Any]) -> Source:
    """Build the source of a config's ``data`` group.

    Raises:
        CrossrecError: an option of the source or the filter is none, or has none of its values.
    """
    check_node("data.source", data["source"])
    check_options("data.filter", data.get("filter") or {}, FILTER)
    return cast(Source, build(data["source"]))


def prepare_corpus(config: Mapping[str, Any]) -> Corpus:
    """Prepare the corpus of a config's ``data`` group, or load it where that was done before.

    Raises:
        CrossrecError: see :func:`source_of`; or a raw file is wrong.
    """
    data = config["data"]
    return prepare(source_of(data), cache_dir=Path(config["paths"]["prepared"]), **(data.get("filter") or {}))


def fingerprint_at_hand(config: Mapping[str, Any]) -> str | None:
    """Content address of a config's corpus, from raw files that are here already; None where one is missing."""
    data = config["data"]
    source = {**data["source"], **({"download": False} if "download" in data["source"] else {})}
    prepared, chosen = Path(config["paths"]["prepared"]), data.get("filter") or {}
    try:
        return fingerprint(source_of({**data, "source": source}), cache_dir=prepared, **chosen)
    except CrossrecError:
        return None


def recorded_corpus(run: RunFolder) -> Corpus:
    """Load the corpus that a run was trained on, or prepare it again where its folder is gone.

    Raises:
        CrossrecError: the folder is gone and the raw files have changed.
    """
    recorded = run.corpus
    stored = recorded.get("path")  # a record does not say where the corpus was
    corpus = load_corpus(Path(stored)) if stored and Path(stored).is_dir() else prepare_corpus(run.config)
    if corpus.fingerprint != recorded["fingerprint"]:
        gone = f" and its prepared corpus {stored} is gone: restore either" if stored else ": restore them"
        raise CrossrecError(f"the raw files of run {run.id} have changed{gone}, or train again")
    return corpus
