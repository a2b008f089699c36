"""On what the rows of a table selected their epochs."""

from __future__ import annotations

from collections.abc import Sequence

from crossrec.runs.summary import domain_rows, selecting
from crossrec.studies.jobs import Planned
from crossrec.studies.pairing import MACRO
from crossrec.studies.study import Study


def selection_notes(study: Study, jobs: Sequence[Planned]) -> list[str]:
    """Say which validation metric selected the rows' epochs, where rows of one data set differ in it.

    Rows without training select nothing and are left out. The first finished run of each part stands for its seeds.
    """
    said = {}
    for data in study.data:
        groups: dict[str, list[str]] = {}
        for row in study.rows:
            words = _selects(row.name, data, jobs)
            if words:
                groups.setdefault(words, []).append(row.name)
        if len(groups) > 1:
            said[data] = "; ".join(f"{', '.join(rows)} by {words}" for words, rows in groups.items())
    if not said:
        return []
    if len(said) == len(study.data) and len(set(said.values())) == 1:
        return [f"Rows differ in what selects the epoch: {next(iter(said.values()))}."]
    return [f"Rows of {data} differ in what selects the epoch: {text}." for data, text in said.items()]


def _selects(row: str, data: str, jobs: Sequence[Planned]) -> str:
    """What a row selects on, in words; empty where nothing that trains is finished."""
    found: dict[int, tuple[tuple[str, ...], str]] = {}
    for planned in jobs:
        job, run = planned.job, planned.run
        if (job.row, job.data) != (row, data) or job.part in found or not run.finished:
            continue
        if run.metrics.get("best_epoch") is None:
            continue
        domains, monitor = selecting(run), str(run.config["evaluation"]["monitor"])
        tested = {*domain_rows(run.metrics["test"])} - {MACRO}
        every = len(domains) > 1 and set(domains) == tested
        found[job.part] = (() if every else domains, monitor)
    words: dict[str, list[str]] = {}
    for _, (domains, monitor) in sorted(found.items()):
        if len(domains) == 1:
            words.setdefault(f"validation {monitor} of", []).extend(domains)
        elif domains:
            words.setdefault(f"the mean validation {monitor} of {' and '.join(domains)}", [])
        else:
            words.setdefault(f"the mean of the domains' validation {monitor}", [])
    return " and ".join(f"{how} {_each(targets)}".strip() for how, targets in words.items())


def _each(targets: Sequence[str]) -> str:
    return f"{', '.join(targets)}, each in a run of its own" if len(targets) > 1 else "".join(targets)
