"""A table of runs that no study file names: a folder of runs, or of a ``-m`` grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crossrec.errors import CrossrecError
from crossrec.runs.identity import scientific
from crossrec.runs.reading import read_json
from crossrec.runs.store import RunFolder
from crossrec.runs.summary import find_runs
from crossrec.studies.jobs import Planned
from crossrec.studies.study import Job, Row, Study

METRICS = ("recall@10", "ndcg@10")


def grid(
    folder: Path, metrics: Sequence[str] | None = None, baseline: str | None = None
) -> tuple[Study, list[Planned]]:
    """Take the runs of a folder as a study: rows are the words in which they differ, the seed apart.

    Args:
        folder: of run folders, or of a grid of ``crossrec train -m``.
        metrics: columns; recall and NDCG at 10 without any.
        baseline: name of the row that others are compared with.

    Raises:
        CrossrecError: there is no run, or two runs have the same words and seed.
    """
    found = _runs(folder)
    runs = [run for run, _ in found]
    if not runs:
        raise CrossrecError(f"no runs in {folder}; `crossrec train -m ...` makes a grid of them")
    words = {run.id: _words(overrides) for run, overrides in found}
    common = set.intersection(*(set(w) for w in words.values()))
    names = {run.id: " ".join(w for w in words[run.id] if w not in common) or "run" for run in runs}
    seeds = {run.id: int(run.config["seed"]) for run in runs}
    jobs: dict[tuple[str, int], Planned] = {}
    for run in runs:
        key = (names[run.id], seeds[run.id])
        if key in jobs:
            raise CrossrecError(
                f"{folder}: runs {jobs[key].run.id} and {run.id} have the same overrides ({names[run.id]}, seed "
                f"{seeds[run.id]}): they are of different data or code, so take them apart"
            )
        jobs[key] = Planned(Job(names[run.id], "", seeds[run.id], 0, tuple(words[run.id])), run)
    rows = tuple(Row(name, tuple(w for w in name.split(" ") if "=" in w)) for name in dict.fromkeys(names.values()))
    study = Study(
        path=folder,
        name=folder.resolve().name,
        title=f"runs of {folder.resolve().name}",
        base=tuple(sorted(common)),
        data={"": ()},
        rows=rows,
        seeds=tuple(sorted(set(seeds.values()))),
        metrics=tuple(metrics or METRICS),
        baseline=baseline,
    )
    if baseline is not None:
        study.row(baseline)
    return study, list(jobs.values())


def _runs(folder: Path) -> list[tuple[RunFolder, list[str]]]:
    """Runs with the words that made them: those of the grid's own job, whoever trained the run first."""
    if not folder.is_dir():
        raise CrossrecError(f"no study file and no folder {folder}")
    noted = sorted(folder.glob("*/run.json"), key=lambda p: (len(p.parent.name), p.parent.name))
    if noted:
        notes = [read_json(path) for path in noted]
        found = {str(note["run"]): note["overrides"] for note in reversed(notes)}
        return [(RunFolder.existing(Path(path)), words) for path, words in reversed(found.items())]
    return [(run, run.overrides) for run in find_runs(folder)]


def _words(overrides: Sequence[str]) -> list[str]:
    return [word for word in scientific(overrides) if not word.lstrip("+").startswith("seed=")]
