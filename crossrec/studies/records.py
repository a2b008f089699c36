"""The records of a study's runs, and what they let be known where the data are not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from crossrec.errors import CrossrecError
from crossrec.runs.portable import portable_config
from crossrec.runs.reading import read_json
from crossrec.runs.record import check_record, outside_of, write_record
from crossrec.runs.store import RunFolder

if TYPE_CHECKING:
    from crossrec.studies.jobs import Planned


class KnownCorpus(NamedTuple):
    """What the id of a run needs of its corpus: its content address and the names of its domains."""

    fingerprint: str
    domains: tuple[str, ...]


@dataclass(frozen=True)
class Records:
    """Records of runs.

    Attributes:
        folder: that holds ``runs/``.
        runs: run id -> record.
        corpora: ``data`` group as text -> its corpus, where all records of that group agree.
        outside: name of a source file or model -> its hash, where all records agree.
    """

    folder: Path
    runs: Mapping[str, RunFolder]
    corpora: Mapping[str, KnownCorpus]
    outside: Mapping[str, str]

    def corpus(self, config: Mapping[str, Any]) -> KnownCorpus | None:
        """Corpus of a config's ``data`` group; None where no record has that group.

        A group with an absolute path is never known: what lies there may be other data than the record's.
        """
        shown, lost = portable_config(config)
        return None if any(_of_data(key) for key in lost) else self.corpora.get(_text(shown["data"]))


def read_records(folder: Path) -> Records:
    """Read and check the records in ``folder/runs``.

    Raises:
        CrossrecError: there are none, or one's config and corpus do not make its id.
    """
    from omegaconf import OmegaConf

    found = [RunFolder(path.parent) for path in sorted((folder / "runs").glob("*/config.yaml"))]
    runs = {run.id: run for run in found if run.recorded and run.finished}
    if not runs:
        raise CrossrecError(f"no records in {folder}/runs: `crossrec table STUDY -o {folder} --with-runs` writes them")
    corpora, outside = [], []
    for run in runs.values():
        check_record(run)
        outside += list(outside_of(run).items())
        lost = read_json(run.path / "identity.json")["lost"]
        if not any(_of_data(key) for key in lost):
            corpus = run.corpus
            data = OmegaConf.to_container(OmegaConf.select(OmegaConf.load(run.config_path), "data"), resolve=False)
            corpora.append((_text(data), KnownCorpus(corpus["fingerprint"], tuple(corpus["domains"]))))
    return Records(folder, runs, _agreed(corpora), _agreed(outside))


def write_records(jobs: Iterable[Planned], folder: Path, metrics: Sequence[str]) -> list[RunFolder]:
    """Write the records of the jobs' finished runs to ``folder/runs``."""
    from crossrec.studies.jobs import distinct

    done = [p for p in distinct(jobs) if p.run.finished]
    return [write_record(p.run, folder / "runs", metrics, p.domains) for p in done]


def _of_data(key: str) -> bool:
    return key.partition(".")[0] == "data"


def _text(data: Any) -> str:
    return json.dumps(data, sort_keys=True, default=str)


def _agreed(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Name -> value, without the names that have two values."""
    values: dict[str, set[Any]] = {}
    for name, value in pairs:
        values.setdefault(name, set()).add(value)
    return {name: next(iter(found)) for name, found in values.items() if len(found) == 1}
