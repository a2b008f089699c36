"""The runs of a study: what each is called, and how it stands."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from crossrec.errors import CrossrecError
from crossrec.runs.store import RunFolder
from crossrec.studies.records import KnownCorpus, Records
from crossrec.studies.study import Job, Study


@dataclass(frozen=True)
class Planned:
    """A job whose config composes.

    Attributes:
        job: row, data set, seed and overrides.
        run: where it lies, or will; its record where it is not finished and has one.
        domains: names of all domains of its corpus; empty where the run was found and not planned.
        target: name of its target domain; None where every domain is one.
    """

    job: Job
    run: RunFolder
    domains: tuple[str, ...] = ()
    target: str | None = None

    @property
    def label(self) -> str:
        """Row, data set, part and seed in a few words."""
        part = f" #{self.job.part + 1}" if self.job.part else ""
        return " ".join(filter(None, (self.job.row + part, self.job.data, f"seed {self.job.seed}")))


def plan(
    study: Study,
    overrides: Sequence[str] = (),
    config_dirs: Sequence[Path] = (),
    records: Records | None = None,
    *,
    trains: bool = False,
) -> list[Planned]:
    """Compose every job of a study and find its run folder; corpora are prepared where they are not yet.

    With records, a corpus that they know is not prepared, and where a run is not finished its record stands for it.

    Args:
        study: the study.
        overrides: more words for every job.
        config_dirs: more folders of configs, besides the study's own.
        records: of finished runs; None for none.
        trains: what is not finished will be trained, so the data must be at hand and those of the records.

    Raises:
        CrossrecError: a job does not compose; the message names the row. Or the data are not those of the records.
    """
    from crossrec.studies.checks import check_metrics

    resolve = Resolver([*study.config_dirs, *config_dirs], records)
    made = []
    for job in study.jobs(overrides):
        try:
            config, corpus, run = resolve(job.overrides)
            check_metrics(study, config)
        except CrossrecError as error:
            raise CrossrecError(f"{study.path}, row {job.row!r}: {error}") from error
        target = None if config["target"] in (None, "all") else str(config["target"])
        made.append(Planned(job, run, corpus.domains, target))
    if trains and not all(planned.run.finished for planned in made):
        resolve.check_data()
    return made


class Resolved(NamedTuple):
    """What the words of a command line make: the config as plain values, its corpus, the run's folder."""

    config: dict[str, Any]
    corpus: KnownCorpus
    run: RunFolder


class Resolver:
    """Finds the run of a command line without training it; every corpus is prepared, or read, once.

    Args:
        config_dirs: more folders of configs.
        records: of finished runs; None for none.
    """

    def __init__(self, config_dirs: Sequence[Path] = (), records: Records | None = None) -> None:
        self.config_dirs = config_dirs
        self.records = records
        self._corpora: dict[str, KnownCorpus] = {}
        self._unread: list[tuple[Mapping[str, Any], KnownCorpus]] = []

    def __call__(self, words: Sequence[str]) -> Resolved:
        """Compose ``words``.

        Raises:
            CrossrecError: they do not compose, or the corpus cannot be prepared.
        """
        from crossrec.config import compose, plain
        from crossrec.runs.identity import here, here_or

        config = plain(compose(words, config_dirs=self.config_dirs))
        content = json.dumps([config["data"], config["paths"]["prepared"]], sort_keys=True, default=str)
        if content not in self._corpora:
            self._corpora[content] = self._corpus(config)
        corpus = self._corpora[content]
        run = RunFolder.of(config, corpus.fingerprint, here_or(self.records.outside) if self.records else here)
        if self.records and not run.finished:
            run = self.records.runs.get(run.id, run)
        return Resolved(config, corpus, run)

    def check_data(self) -> None:
        """Prepare the corpora that were taken from records.

        Raises:
            CrossrecError: one cannot be prepared, or is another than the records'.
        """
        for config, known in self._unread:
            corpus = _prepared(config)
            if corpus.fingerprint != known.fingerprint and self.records is not None:
                raise CrossrecError(
                    f"the data are not those of the records in {self.records.folder} (corpora "
                    f"{corpus.fingerprint[:12]} and {known.fingerprint[:12]}), and one table cannot be of both: "
                    "restore the data, or leave out --recorded to train every run"
                )

    def _corpus(self, config: Mapping[str, Any]) -> KnownCorpus:
        known = None if self.records is None else self.records.corpus(config)
        if known is None:
            return _prepared(config)
        self._unread.append((config, known))
        return known


def _prepared(config: Mapping[str, Any]) -> KnownCorpus:
    from crossrec.runs.corpus import prepare_corpus

    corpus = prepare_corpus(config)
    return KnownCorpus(corpus.fingerprint, tuple(domain.name for domain in corpus.domains))


def distinct(jobs: Iterable[Planned]) -> list[Planned]:
    """Jobs without those whose run an earlier one is: rows may share a run."""
    first: dict[Path, Planned] = {}
    for planned in jobs:
        first.setdefault(planned.run.path, planned)
    return list(first.values())
