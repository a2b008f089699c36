"""From a resolved config to its prepared corpus; apart from the models, so that a run's id is known without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossrec.config import build
from crossrec.data.prepare import prepare
from crossrec.data.schema import Corpus


def prepare_corpus(config: Mapping[str, Any]) -> Corpus:
    """Prepare the corpus of a config's ``data`` group, or load it where that was done before."""
    data = config["data"]
    return prepare(build(data["source"]), cache_dir=Path(config["paths"]["prepared"]), **(data.get("filter") or {}))
