"""A study as a command line means it: with its overrides, config folders and rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from crossrec.errors import CrossrecError
from crossrec.studies.beginnings import with_sources
from crossrec.studies.jobs import Planned, Resolver, plan
from crossrec.studies.reader import read_study
from crossrec.studies.records import read_records
from crossrec.studies.study import Study
from crossrec.studies.table import series


@dataclass(frozen=True)
class Selection:
    """A study and its composed jobs.

    Attributes:
        study: with only the chosen rows, and those that they begin with.
        jobs: of the chosen seeds; the study keeps all, so a table of some of them says that it is partial.
        config_dirs: folders of configs, the study's own and the command line's.
        notes: what the reader of a table must know of its data.
    """

    study: Study
    jobs: list[Planned]
    config_dirs: tuple[Path, ...]
    notes: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Where sweeps of the study keep their logs: beside its runs."""
        run = next((p.run for p in self.jobs if not p.run.recorded), self.jobs[0].run)
        return run.path.parent / "studies" / self.study.name


def select(
    path: str | Path,
    overrides: Sequence[str],
    config_dirs: Sequence[Path] = (),
    rows: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    recorded: Path | None = None,
    *,
    trains: bool = False,
) -> Selection:
    """Read a study and compose its jobs.

    Args:
        path: the study file.
        overrides: more words for every job.
        config_dirs: more folders of configs.
        rows: names of rows to keep; None for all. A row made from a list of values also answers to the name before it,
            and a text that names no row is names separated by commas.
        seeds: whose jobs to keep; None for all.
        recorded: folder of a table with the records of its runs, which count as finished; None for none.
        trains: see :func:`~crossrec.studies.jobs.plan`.

    Raises:
        CrossrecError: the file, a job, a row's name or a seed is wrong.
    """
    for folder in config_dirs:
        if not folder.is_dir():
            raise CrossrecError(f"--config-dir {folder} is not a folder")
    study = read_study(Path(path))
    if rows is not None:
        kept = with_sources(study.rows, {name for wanted in rows for name in _asked(study, wanted)})
        baseline = study.baseline if study.baseline in kept else None
        study = replace(study, rows=tuple(r for r in study.rows if r.name in kept), baseline=baseline)
    if seeds is not None:
        for seed in seeds:
            if seed not in study.seeds:
                raise CrossrecError(f"{path}: no seed {seed}; its seeds are {', '.join(map(str, study.seeds))}")
    folders = tuple(d.resolve() for d in (*study.config_dirs, *config_dirs))
    records = None if recorded is None else read_records(recorded)
    resolve = Resolver([*study.config_dirs, *config_dirs], records)
    jobs = plan(study, overrides, resolve, trains=trains)
    kept_jobs = [p for p in jobs if seeds is None or p.job.seed in seeds]
    notes = resolve.changed_data() if any(p.run.recorded for p in kept_jobs) else []
    return Selection(study, kept_jobs, folders, tuple(notes))


def _asked(study: Study, text: str) -> list[str]:
    """Rows that a text names whole, commas and all; else those of its parts between commas."""
    if named := _named(study, text):
        return named
    return [name for part in text.split(",") for name in _named(study, part) or [study.row(part).name]]


def _named(study: Study, name: str) -> list[str]:
    made = [r.name for r in study.rows if r.parameter and series(r.name, r.parameter[0]) == name]
    return made or [r.name for r in study.rows if r.name == name]
