"""The runs of a study: what each is called, and how it stands."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from crossrec.errors import CrossrecError
from crossrec.runs.store import RunFolder
from crossrec.studies.study import Job, Study

if TYPE_CHECKING:
    from crossrec.data.schema import Corpus


@dataclass(frozen=True)
class Planned:
    """A job whose config composes.

    Attributes:
        job: row, data set, seed and overrides.
        run: where it lies, or will.
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


def plan(study: Study, overrides: Sequence[str] = (), config_dirs: Sequence[Path] = ()) -> list[Planned]:
    """Compose every job of a study and find its run folder; corpora are prepared where they are not yet.

    Args:
        study: the study.
        overrides: more words for every job.
        config_dirs: more folders of configs, besides the study's own.

    Raises:
        CrossrecError: a job does not compose; the message names the row.
    """
    from crossrec.studies.checks import check_metrics

    resolve = Resolver([*study.config_dirs, *config_dirs])
    made = []
    for job in study.jobs(overrides):
        try:
            config, corpus, run = resolve(job.overrides)
            check_metrics(study, config)
        except CrossrecError as error:
            raise CrossrecError(f"{study.path}, row {job.row!r}: {error}") from error
        domains = tuple(domain.name for domain in corpus.domains)
        target = None if config["target"] in (None, "all") else str(config["target"])
        made.append(Planned(job, run, domains, target))
    return made


class Resolved(NamedTuple):
    """What the words of a command line make: the config as plain values, its corpus, the run's folder."""

    config: dict[str, Any]
    corpus: Corpus
    run: RunFolder


class Resolver:
    """Finds the run of a command line without training it; every corpus is prepared, or read, once.

    Args:
        config_dirs: more folders of configs.
    """

    def __init__(self, config_dirs: Sequence[Path] = ()) -> None:
        self.config_dirs = config_dirs
        self._corpora: dict[str, Corpus] = {}

    def __call__(self, words: Sequence[str]) -> Resolved:
        """Compose ``words``.

        Raises:
            CrossrecError: they do not compose, or the corpus cannot be prepared.
        """
        from crossrec.config import compose, plain
        from crossrec.runs.corpus import prepare_corpus

        config = plain(compose(words, config_dirs=self.config_dirs))
        content = json.dumps([config["data"], config["paths"]["prepared"]], sort_keys=True, default=str)
        if content not in self._corpora:
            self._corpora[content] = prepare_corpus(config)
        corpus = self._corpora[content]
        return Resolved(config, corpus, RunFolder.of(config, corpus.fingerprint))


def distinct(jobs: Iterable[Planned]) -> list[Planned]:
    """Jobs without those whose run an earlier one is: rows may share a run."""
    first: dict[Path, Planned] = {}
    for planned in jobs:
        first.setdefault(planned.run.path, planned)
    return list(first.values())
