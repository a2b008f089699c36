"""The runs of a study: what each is called, and how it stands."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from crossrec.config import quoted, target_of
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
        waits: label of the job whose run it begins with, while that is not finished: what its own run will be called
            depends on the weights, so ``run`` is none yet. Empty where nothing is missing.
    """

    job: Job
    run: RunFolder
    domains: tuple[str, ...] = ()
    target: str | None = None
    waits: str = ""

    @property
    def label(self) -> str:
        """Row, data set, part and seed in a few words."""
        part = f" #{self.job.part + 1}" if self.job.part else ""
        return " ".join(filter(None, (self.job.row + part, self.job.data, f"seed {self.job.seed}")))


def plan(
    study: Study,
    overrides: Sequence[str],
    resolve: Resolver,
    *,
    trains: bool = False,
) -> list[Planned]:
    """Compose every job of a study and find its run folder; corpora are prepared where they are not yet.

    All jobs are composed and checked before a corpus is prepared, and checked again by what the corpora hold.

    Args:
        study: the study.
        overrides: more words for every job.
        resolve: finds the runs, with the study's folders of configs.
        trains: what is not finished will be trained, so a job's config must be one that trains, and the data must be at
            hand and those of the records.

    Raises:
        CrossrecError: a job does not compose, cannot be trained, asks for a metric that is not computed or for a domain
            that is not there, or a row's search space does not compose; the message names the row. Or the data are not
            those of the records.
    """
    from crossrec.runs.config_check import check, check_target
    from crossrec.studies.checks import check_domains, check_metrics, tried

    configs: list[tuple[Job, dict[str, Any]]] = []
    searched = {row.name: row for row in study.rows if row.search}
    for job in study.jobs(overrides):
        with _of_row(study, job.row):
            config = resolve.compose(job.overrides)
            check_metrics(study, config)
            if trains and job.seed == study.seeds[0]:
                begun = {} if job.init is None else {"init": {**config["init"], "from": job.init}}
                check({**config, **begun}, job.overrides)
            check_target(config, resolve.domain_names(config))
        if row := searched.pop(job.row, None):
            tried(study, row, job.overrides, resolve.compose)
        configs.append((job, config))
    check_domains(study, _by_data((job.data, resolve.domain_names(config)) for job, config in configs))
    by_key = {_key(job): (job, config) for job, config in configs}
    found: dict[_Key, Planned] = {}

    def planned(key: _Key) -> Planned:
        if key not in found:
            job, config = by_key[key]
            source = None if job.init is None else planned((job.init, job.data, job.seed, 0))
            with _of_row(study, job.row):
                found[key] = _planned(resolve, job, config, source)
                check_target(config, found[key].domains)
        return found[key]

    made = [planned(_key(job)) for job, _ in configs]
    check_domains(study, _by_data((one.job.data, one.domains) for one in made))
    if trains and not all(one.run.finished for one in made):
        resolve.check_data()
    return made


_Key = tuple[str, str, int, int]


def _key(job: Job) -> _Key:
    return job.row, job.data, job.seed, job.part


def _planned(resolve: Resolver, job: Job, config: dict[str, Any], source: Planned | None) -> Planned:
    """Find a job's run; of one that begins with another's, by the folder of that and the weights in it."""
    waits = ""
    if source is not None:
        if config["init"]["from"]:
            raise CrossrecError("init.from names a run besides the one of the row that init names: leave one out")
        folder = str(source.run.path)
        job = job._replace(overrides=(*job.overrides, f"init.from={quoted(folder)}"))
        config = {**config, "init": {**config["init"], "from": folder}}
        waits = source.label if source.waits or not resolve.has_weights(source.run) else ""
    _, corpus, run = resolve.locate(config, waiting=bool(waits))
    return Planned(job, run, corpus.domains, target_of(config), waits)


@contextmanager
def _of_row(study: Study, row: str) -> Iterator[None]:
    try:
        yield
    except CrossrecError as error:
        raise CrossrecError(f"{study.path}, row {row!r}: {error}") from error


def _by_data(pairs: Iterable[tuple[str, tuple[str, ...] | None]]) -> dict[str, tuple[str, ...] | None]:
    """Data set -> all names of domains of its jobs; None where one of them is not known."""
    found: dict[str, tuple[str, ...] | None] = {}
    for data, names in pairs:
        before = found.get(data, ())
        found[data] = None if names is None or before is None else tuple(dict.fromkeys([*before, *names]))
    return found


class Resolved(NamedTuple):
    """What the words of a command line make: the config as plain values, its corpus, the run's folder."""

    config: dict[str, Any]
    corpus: KnownCorpus
    run: RunFolder


class Resolver:
    """Finds the run of a command line without training it; every corpus is prepared, or read, once.

    With records, a corpus that they know is not prepared, and where a run is not finished its record stands for it.

    Args:
        config_dirs: more folders of configs.
        records: of finished runs; None for none.
    """

    def __init__(self, config_dirs: Sequence[Path] = (), records: Records | None = None) -> None:
        self.config_dirs = config_dirs
        self.records = records
        self._corpora: dict[str, KnownCorpus] = {}
        self._names: dict[str, tuple[str, ...] | None] = {}
        self._unread: list[tuple[Mapping[str, Any], KnownCorpus]] = []

    def __call__(self, words: Sequence[str]) -> Resolved:
        """Compose ``words`` and find their run.

        Raises:
            CrossrecError: they do not compose, or the corpus cannot be prepared.
        """
        return self.locate(self.compose(words))

    def compose(self, words: Sequence[str]) -> dict[str, Any]:
        """Config of ``words`` as plain values.

        Raises:
            CrossrecError: they do not compose.
        """
        from crossrec.config import compose, plain

        return plain(compose(words, config_dirs=self.config_dirs))

    def domain_names(self, config: Mapping[str, Any]) -> tuple[str, ...] | None:
        """Names of the domains of a config's data as records or the source's options tell them; None where none do.

        Raises:
            CrossrecError: an option of the source is wrong.
        """
        from crossrec.runs.corpus import source_of

        content = _content(config)
        if content not in self._names:
            known = None if self.records is None else self.records.corpus(config)
            names = known.domains if known else source_of(config["data"]).domain_names()
            self._names[content] = None if names is None else tuple(names)
        return self._names[content]

    def has_weights(self, run: RunFolder) -> bool:
        """Whether a run's weights are there, or known by the records of runs that began with them."""
        from crossrec.runs.identity import weights_name

        if run.recorded:
            return self.records is not None and weights_name(run.id) in self.records.outside
        return run.finished

    def locate(self, config: dict[str, Any], *, waiting: bool = False) -> Resolved:
        """Find the run of a config.

        Args:
            config: as plain values.
            waiting: the weights that it begins with are not there yet: the run has a name that no run will have.

        Raises:
            CrossrecError: its corpus cannot be prepared.
        """
        from crossrec.runs.identity import here_or, weights_name

        content = _content(config)
        if content not in self._corpora:
            self._corpora[content] = self._corpus(config)
        corpus = self._corpora[content]
        outside = dict(self.records.outside) if self.records else {}
        if waiting:
            outside[weights_name(Path(config["init"]["from"]).name)] = "not there yet"
        run = RunFolder.of(config, corpus.fingerprint, here_or(outside))
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

    def changed_data(self) -> list[str]:
        """Say which corpora that were taken from records are others than the raw files here make; no data, no word."""
        from crossrec.runs.corpus import fingerprint_at_hand

        said = []
        for config, known in self._unread:
            here = fingerprint_at_hand(config)
            if here is not None and here != known.fingerprint and self.records is not None:
                said.append(
                    f"The raw data here are not those of the records in {self.records.folder} (corpora {here[:12]} and "
                    f"{known.fingerprint[:12]}): the numbers are of the records' data."
                )
        return said

    def _corpus(self, config: Mapping[str, Any]) -> KnownCorpus:
        known = None if self.records is None else self.records.corpus(config)
        if known is None:
            return _prepared(config)
        self._unread.append((config, known))
        return known


def _content(config: Mapping[str, Any]) -> str:
    return json.dumps([config["data"], config["paths"]["prepared"]], sort_keys=True, default=str)


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
