"""The runs of a study: what each is called, and how it stands."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from crossrec.errors import CrossrecError
from crossrec.runs.store import RunFolder
from crossrec.studies.study import Job, Study


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
    from crossrec.config import compose, plain
    from crossrec.data.schema import Corpus
    from crossrec.runs.corpus import prepare_corpus
    from crossrec.runs.identity import run_id
    from crossrec.studies.checks import check_metrics

    corpora: dict[str, Corpus] = {}
    made = []
    for job in study.jobs(overrides):
        try:
            config = plain(compose(job.overrides, config_dirs=[*study.config_dirs, *config_dirs]))
            content = json.dumps([config["data"], config["paths"]["prepared"]], sort_keys=True, default=str)
            if content not in corpora:
                corpora[content] = prepare_corpus(config)
            check_metrics(study, config)
            name = run_id(config, corpora[content].fingerprint)
        except CrossrecError as error:
            raise CrossrecError(f"{study.path}, row {job.row!r}: {error}") from error
        run = RunFolder((Path(config["paths"]["runs"]) / name).resolve())
        domains = tuple(domain.name for domain in corpora[content].domains)
        target = None if config["target"] in (None, "all") else str(config["target"])
        made.append(Planned(job, run, domains, target))
    return made


def distinct(jobs: Iterable[Planned]) -> list[Planned]:
    """Jobs without those whose run an earlier one is: rows may share a run."""
    first: dict[Path, Planned] = {}
    for planned in jobs:
        first.setdefault(planned.run.path, planned)
    return list(first.values())
