"""The domain gap of a study's rows, as ``crossrec gap`` measured it run by run, and what every format shows of it."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from crossrec.runs.reading import read_json
from crossrec.studies.jobs import Planned
from crossrec.studies.shown import EMPTY, MINUS, one_line
from crossrec.studies.study import Study
from crossrec.studies.table import GapLine, Table

STAGES = ("before", "after")
FORMS = {"mmd": ".4f", "coral": ".2g", "pad": ".2f"}
"""Measures of a gap, and how many digits each shows."""

TITLE = "Domain gap, before and after training"
HEADER = ("MMD²", "CORAL", "PAD", "seeds")
LEGEND = (
    "before: with the weights that training began from; after: with those of the selected epoch. Vectors are those "
    "that are scored, divided by their pooled deviation.",
    "MMD²: unbiased, Gaussian kernel at the median distance, 0 without a gap. CORAL: squared distance of covariances / "
    "4 f². PAD: proxy A-distance of a linear classifier, 0 (domains are not told apart) to 2.",
    "seeds: measured / asked for. A row without training, or trained on one domain, has no gap.",
)


class Shown(NamedTuple):
    """A printed line of the block.

    Attributes:
        level: 0 names a row, 1 has the values of a pair before training, 2 those after.
        label: what stands before the cells.
        cells: one for each of :data:`HEADER`: number and deviation, either of which may be empty.
    """

    level: int
    label: str
    cells: tuple[tuple[str, str], ...]


def gap_lines(study: Study, jobs: Sequence[Planned]) -> tuple[tuple[GapLine, ...], list[str]]:
    """Collect what the finished runs' ``gap.json`` hold.

    Every row has a line for each space and pair of domains that any row of its data set has; what is not measured has
    no value. A row of several runs has lines of its own for each of them that is measured.

    Returns:
        The lines, and sentences to print below the table.
    """
    found: dict[tuple[str, str, int], dict[int, tuple[str, list[Mapping[str, Any]]]]] = defaultdict(dict)
    for planned in jobs:
        file = planned.run.path / "gap.json"
        if planned.run.finished and file.is_file():
            job = planned.job
            found[job.row, job.data, job.part][job.seed] = (planned.run.id, read_json(file)["pairs"])
    lines, notes = [], []
    for data in study.data:
        measured = [p for (_, d, _), seeds in found.items() if d == data for _, pairs in seeds.values() for p in pairs]
        of = f" of {data}" if data else ""
        if not measured:
            notes.append(f"No run{of} has its domain gap measured: crossrec gap {study.path}.")
        sizes: dict[tuple[str, tuple[str, ...]], set[tuple[int, ...]]] = {}
        for pair in measured:
            sizes.setdefault(_key(pair), set()).add(tuple(pair["rows"]))
        if any(len(size) > 1 for size in sizes.values()):
            notes.append(f"Domain gaps{of} are of different numbers of users or items, so they do not quite compare.")
        keys = sorted(sizes, key=lambda key: key[0] != "users")  # users first, as in each file
        for row in study.rows:
            parts = [part for part in range(len(row.runs)) if found.get((row.name, data, part))] or [0]
            for part in parts:
                name = f"{row.name} #{part + 1}" if len(parts) > 1 else row.name
                lines += [_line(name, data, key, found.get((row.name, data, part), {}), study) for key in keys]
    return tuple(lines), notes


def _key(pair: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    return str(pair["space"]), tuple(pair["pair"])


def _line(
    row: str,
    data: str,
    key: tuple[str, tuple[str, ...]],
    seeds: Mapping[int, tuple[str, list[Mapping[str, Any]]]],
    study: Study,
) -> GapLine:
    pairs = {seed: (run, p) for seed, (run, all_pairs) in sorted(seeds.items()) for p in all_pairs if _key(p) == key}
    values = {
        (measure, stage): tuple(float(p[stage][measure]) for _, p in pairs.values())
        for measure in FORMS
        for stage in STAGES
    }
    space, (first, second) = key
    return GapLine(row, data, space, (first, second), tuple(r for r, _ in pairs.values()), values, len(study.seeds))


def mean_std(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation; None without a value, and without two."""
    return (statistics.fmean(values) if values else None), (statistics.stdev(values) if len(values) > 1 else None)


def gap_block(table: Table) -> list[Shown]:
    """The block's lines in their order; a row's name stands over its pairs."""
    several = len({line.data for line in table.gaps}) > 1
    made: list[Shown] = []
    before = None
    for line in table.gaps:
        named = one_line(", ".join(filter(None, (line.row, line.data if several else ""))))
        if named != before:
            made.append(Shown(0, named, (("", ""),) * len(HEADER)))
            before = named
        pair = one_line(f"{line.space}, {line.pair[0]} - {line.pair[1]}")
        seeds = (f"{len(line.runs)}/{line.expected}", "")
        made.append(Shown(1, f"{pair}, before", (*_numbers(line, "before"), seeds)))
        made.append(Shown(2, "after", (*_numbers(line, "after"), ("", ""))))
    return made


def _numbers(line: GapLine, stage: str) -> list[tuple[str, str]]:
    shown = []
    for measure, form in FORMS.items():
        mean, std = mean_std(line.values[measure, stage])
        shown.append((EMPTY if mean is None else _signed(f"{mean:{form}}"), "" if std is None else f"{std:{form}}"))
    return shown


def _signed(number: str) -> str:
    """With a true minus sign, and none before zero."""
    digits = number.removeprefix("-")
    return number if digits == number else digits if float(digits) == 0 else f"{MINUS}{digits}"
