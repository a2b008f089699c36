"""From a study's run folders to its table."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from crossrec.errors import CrossrecError
from crossrec.evaluation.significance import holm
from crossrec.evaluation.summary import COUNT
from crossrec.runs.store import RunFolder
from crossrec.runs.summary import domain_rows
from crossrec.studies.gaps import gap_lines
from crossrec.studies.jobs import Planned
from crossrec.studies.monitors import selection_notes
from crossrec.studies.pairing import MACRO, compare_cells, of_all_lists
from crossrec.studies.study import Study
from crossrec.studies.table import Cell, Column, Status, Table, Value
from crossrec.suggestions import nearest


class _Result(NamedTuple):
    run: Path
    metrics: Mapping[str, float]
    domains: tuple[str, ...]


Results = Mapping[tuple[str, str, str], Mapping[int, _Result]]
"""(row, data, domain) -> seed -> metrics of the study's stage."""


def collect(study: Study, jobs: Sequence[Planned], *, significance: bool = True) -> Table:
    """Aggregate the finished runs of a study.

    Args:
        study: the study.
        jobs: its jobs; those not finished leave their cells partial or empty.
        significance: compare every row with the baseline row, user by user.

    Raises:
        CrossrecError: nothing has finished, a metric is not in a run, or two runs of one row and seed evaluate one
            domain.
    """
    results = _results(study, jobs)
    columns = _columns(study, jobs, results)
    means = _same_means(results)
    names = [row.name for row in study.rows]
    cells = {(row, c): _cell(study, results, row, c) for row in names for c in columns}
    notes = _not_evaluated(study, jobs, cells, means)
    for column in columns:
        _rank(cells, names, column)
    if study.baseline is not None:
        notes += _compare(study, results, cells, significance and study.stage == "test")
    if study.stage == "valid":
        notes.append("Of validation, which selected the epochs, so the numbers flatter; users are not compared.")
    gaps, unmeasured = gap_lines(study, jobs) if "gap" in study.reports else ((), [])
    runs = {value.run for cell in cells.values() for value in cell.values}
    revisions = {RunFolder(Path(run)).versions.get("git") for run in runs}
    notes += [] if len(revisions) < 2 else [f"The runs are of {len(revisions)} revisions of the code."]
    if any(r and r.endswith("+dirty") for r in revisions):
        notes.append("Some runs are of code with uncommitted changes.")
    return Table(
        name=study.name,
        title=study.title + (", validation" if study.stage == "valid" else ""),
        rows=tuple(names),
        columns=tuple(columns),
        cells=cells,
        baseline=study.baseline,
        tolerance=str(study.tolerance) if study.published else "",
        source=study.source if study.published else "",
        protocol=study.protocol if study.published else "",
        notes=tuple([*notes, *unmeasured, *selection_notes(study, jobs), *_protocols(jobs)]),
        parameters={row.name: row.parameter for row in study.rows if row.parameter is not None},
        gaps=gaps,
    )


def _results(study: Study, jobs: Sequence[Planned]) -> dict[tuple[str, str, str], dict[int, _Result]]:
    found: dict[tuple[str, str, str], dict[int, _Result]] = defaultdict(dict)
    for planned in jobs:
        if not planned.run.finished:
            continue
        job = planned.job
        rows = domain_rows(planned.run.metrics[study.stage])
        parts = len(study.row(job.row).runs)
        own = tuple(sorted(domain for domain in rows if domain != MACRO and rows[domain].get(COUNT, 1.0) > 0))
        for domain, metrics in rows.items():
            if domain == MACRO and parts > 1:
                continue  # the mean over the domains of one part is not the row's
            seeds = found[job.row, job.data, domain]
            if job.seed in seeds:
                raise CrossrecError(
                    f"{study.path}, row {job.row!r}: two of its runs evaluate the domain {domain}; "
                    "give each a target of its own"
                )
            seeds[job.seed] = _Result(planned.run.path, metrics, own)
    if not found:
        raise CrossrecError(f"no run of {study.path} is finished: crossrec sweep {study.path}")
    return found


def _columns(study: Study, jobs: Sequence[Planned], results: Results) -> list[Column]:
    columns: list[Column] = []
    for data in study.data:
        planned = [p for p in jobs if p.job.data == data]
        there = list(dict.fromkeys(domain for _, d, domain in results if d == data and domain != MACRO))
        possible = dict.fromkeys([*there, *(domain for p in planned for domain in p.domains)])
        if study.domains is not None:
            shown = [d for d in study.domains if d in possible or d == MACRO]
        else:
            aimed = {d for p in planned for d in ([p.target] if p.target else p.domains)}
            shown = there or [d for d in possible if d in aimed]
        columns += [Column(data, domain, metric) for domain in shown for metric in study.metrics]
    return columns


def _same_means(results: dict[tuple[str, str, str], dict[int, _Result]]) -> dict[str, tuple[str, ...]]:
    """Leave out macro values that are means over other domains than most; the domains of each data set's means."""
    widest: dict[str, tuple[str, ...]] = {}
    for (_, data, domain), seeds in results.items():
        if domain == MACRO:
            widest[data] = max([widest.get(data, ()), *(r.domains for r in seeds.values())], key=len)
    for (_, data, domain), seeds in results.items():
        if domain == MACRO:
            for seed in [s for s, r in seeds.items() if r.domains != widest[data]]:
                del seeds[seed]
    return widest


def _not_evaluated(
    study: Study,
    jobs: Sequence[Planned],
    cells: dict[tuple[str, Column], Cell],
    means: Mapping[str, tuple[str, ...]],
) -> list[str]:
    """Tell the cells that stay empty from those whose runs are missing; what to say of them."""
    finished: dict[tuple[str, str], set[int]] = defaultdict(set)
    for planned in jobs:
        if planned.run.finished:
            finished[planned.job.row, planned.job.data].add(planned.job.part)
    said: dict[str, None] = {}
    for (row, column), cell in cells.items():
        if cell.values or len(finished[row, column.data]) < len(study.row(row).runs):
            continue
        cells[row, column] = replace(cell, status="run")
        of = f" of {column.data}" if len(study.data) > 1 else ""
        if column.domain == MACRO:
            over = ", ".join(means.get(column.data, ()))
            said[f"{row} has no run with the mean over the domains{f' {over}' if over else ''}{of}."] = None
        else:
            does = "evaluate" if study.stage == "test" else "validate"
            said[f"{row} does not {does} {column.domain}{of}."] = None
    return list(said)


def _cell(study: Study, results: Results, row: str, column: Column) -> Cell:
    seeds = results.get((row, column.data, column.domain), {})
    values = []
    for seed in sorted(seeds):
        result = seeds[seed]
        if column.metric not in result.metrics:
            raise CrossrecError(
                f"{study.path}: no metric {column.metric!r} in {result.run}"
                + nearest(column.metric, sorted(result.metrics))
            )
        values.append(Value(seed, result.metrics[column.metric], str(result.run)))
    numbers = [v.value for v in values]
    mean = statistics.fmean(numbers) if numbers else None
    published, published_std = study.published.get((row, column.data, column.domain, column.metric), (None, None))
    status: Status = "not run"
    if mean is not None:
        status = "run" if len(values) == len(study.seeds) else "partial"
        if status == "run" and published is not None:
            status = "reproduced" if study.tolerance.holds(mean, published) else "differs"
    return Cell(
        row=row,
        column=column,
        values=tuple(values),
        expected=len(study.seeds),
        mean=mean,
        std=statistics.stdev(numbers) if len(numbers) > 1 else None,
        published=published,
        published_std=published_std,
        status=status,
    )


def _rank(cells: dict[tuple[str, Column], Cell], rows: Sequence[str], column: Column) -> None:
    """Mark the best and the second best of a column; equal means share a place. Larger is better, as Gini's is not."""
    sign = 1 if column.metric.startswith("gini") else -1
    means = {row: cells[row, column].mean for row in rows}
    levels = sorted({sign * m for m in means.values() if m is not None})
    if len(levels) < 2:
        return
    for row, mean in means.items():
        if mean is not None and sign * mean in levels[:2]:
            cells[row, column] = replace(cells[row, column], place=levels.index(sign * mean) + 1)


def _compare(study: Study, results: Results, cells: dict[tuple[str, Column], Cell], significance: bool) -> list[str]:
    """Compare every row with the baseline; what to say of comparisons that cannot be made."""
    baseline = str(study.baseline)
    compared: list[tuple[str, Column]] = []
    of_lists: dict[str, None] = {}
    failed: dict[str, None] = {}
    reason = ""
    for (row, column), cell in cells.items():
        base = cells[baseline, column]
        if row == baseline or cell.mean is None or base.mean is None:
            continue
        made = replace(cell, gain=(cell.mean - base.mean) / base.mean if base.mean else None)
        ours = {s: r.run for s, r in results[row, column.data, column.domain].items()}
        theirs = {s: r.run for s, r in results[baseline, column.data, column.domain].items()}
        if significance and ours.keys() & theirs.keys():
            try:
                if column.metric != COUNT and not of_all_lists(column.metric):
                    comparison = compare_cells(ours, theirs, column.domain, column.metric, baseline, study.test)
                    made = replace(made, comparison=comparison)
                    compared.append((row, column))
                else:
                    of_lists[column.metric] = None
            except CrossrecError as error:
                made = replace(made, gain=None)
                failed[" ".join(filter(None, (row, column.data, column.domain)))] = None
                reason = reason or _without_folders(str(error), [*ours.values(), *theirs.values()])
        cells[row, column] = made
    adjusted = holm([cells[key].comparison.p_users for key in compared])  # type: ignore[union-attr]
    for key, p in zip(compared, adjusted):
        cells[key] = replace(cells[key], comparison=replace(cells[key].comparison, p_adjusted=p))  # type: ignore[type-var]
    notes = [f"Not tested over users, being of all lists together: {', '.join(of_lists)}."] if of_lists else []
    return notes + ([f"Not compared with {baseline}: {'; '.join(failed)} ({reason})."] if failed else [])


def _without_folders(text: str, runs: Sequence[Path]) -> str:
    for run in runs:
        text = text.replace(f"{run.parent}/", "")
    return text


def _protocols(jobs: Sequence[Planned]) -> list[str]:
    sampled = {p.run.metrics.get("protocol") for p in jobs if p.run.finished} - {"full", None}
    return [f"Ranked among sampled items ({', '.join(sorted(map(str, sampled)))})."] if sampled else []
