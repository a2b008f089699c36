"""A study file: which runs make a table, and what was published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from crossrec.errors import CrossrecError
from crossrec.studies.search_space import Dimension
from crossrec.suggestions import nearest

Published = Mapping[tuple[str, str, str, str], tuple[float, float | None]]
"""(row, data, domain, metric) -> (published value, its std or None)."""


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        name: as the table prints it.
        overrides: of all its runs.
        runs: more overrides, one list for each run of a seed; the row takes its domains from all of them. One empty
            list when the row is one run a seed.
        parameter: (key, value) where the row is one of a list of values (``over``).
        search: the space that ``crossrec tune`` searches; empty for none.
        init: name of the row whose run, of the same data set and seed, its runs begin with; None begins anew.
    """

    name: str
    overrides: tuple[str, ...]
    runs: tuple[tuple[str, ...], ...] = ((),)
    parameter: tuple[str, float | str] | None = None
    search: tuple[Dimension, ...] = ()
    init: str | None = None


class Job(NamedTuple):
    """One run of a study.

    Attributes:
        row: name of its row.
        data: name of its data set.
        seed: of the run.
        part: which of the row's runs.
        overrides: all words of its command line after ``crossrec train``.
        init: name of the row whose run it begins with.
    """

    row: str
    data: str
    seed: int
    part: int
    overrides: tuple[str, ...]
    init: str | None = None


def refuse_seed(where: str, words: Sequence[str]) -> None:
    """Refuse overrides of a study's runs that set their seed.

    Raises:
        CrossrecError: one does.
    """
    for word in words:
        if word.partition("=")[0].lstrip("+") == "seed":
            raise CrossrecError(
                f"{where}: {word} would be ignored, because a study's runs have the seeds of its key seeds: name them "
                "there, as in seeds: [0, 1, 2]"
            )


@dataclass(frozen=True)
class Tolerance:
    """How far a mean may be from the published value: within either bound.

    Attributes:
        relative: share of the published value.
        absolute: in units of the metric.
    """

    relative: float = 0.0
    absolute: float = 0.0

    def holds(self, value: float, published: float) -> bool:
        """Whether ``value`` reproduces ``published``."""
        return abs(value - published) <= max(self.relative * abs(published), self.absolute) + 1e-12

    def __str__(self) -> str:
        parts = [f"{self.relative:.3g} of the published value"] if self.relative else []
        parts += [f"{self.absolute:.3g}"] if self.absolute else []
        return " or ".join(parts) or "none"


@dataclass(frozen=True)
class Study:
    """A study file, read and checked.

    Attributes:
        path: the file.
        name: of the study.
        title: one line.
        base: overrides of every run.
        data: data set name -> overrides; one entry with no overrides when the file names none.
        rows: in their order.
        seeds: one run each.
        metrics: columns, for each domain.
        domains: domains to show; None for all that are evaluated.
        baseline: row that others are compared with.
        published: values of cells.
        source: where the published values are from.
        protocol: how they were measured.
        tolerance: of ``reproduced``.
        config_dirs: folders of configs of the study's own.
        test: paired test over users, ``permutation`` or ``wilcoxon``.
        reports: what the table shows besides: ``gap``, the domain gap.
        stage: whose targets the table is of: ``test``, or ``valid``, to choose by before anything is tested.
    """

    path: Path
    name: str
    title: str
    base: tuple[str, ...]
    data: Mapping[str, tuple[str, ...]]
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    metrics: tuple[str, ...]
    domains: tuple[str, ...] | None = None
    baseline: str | None = None
    published: Published = field(default_factory=dict)
    source: str = ""
    protocol: str = ""
    tolerance: Tolerance = Tolerance()
    config_dirs: tuple[Path, ...] = ()
    test: str = "permutation"
    reports: tuple[str, ...] = ()
    stage: str = "test"

    def row(self, name: str) -> Row:
        """The row of that name.

        Raises:
            CrossrecError: there is none; the message names the nearest.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise CrossrecError(f"{self.path}: no row {name!r}{nearest(name, [r.name for r in self.rows])}")

    def jobs(self, overrides: Sequence[str] = ()) -> list[Job]:
        """Every run of the study, seed by seed.

        Args:
            overrides: more words for all of them; they win.

        Raises:
            CrossrecError: one sets the seed.
        """
        refuse_seed(str(self.path), overrides)
        return [
            Job(
                row=row.name,
                data=data,
                seed=seed,
                part=part,
                overrides=(*self.base, *words, *row.overrides, *run, *overrides, f"seed={seed}"),
                init=row.init,
            )
            for seed in self.seeds
            for data, words in self.data.items()
            for row in self.rows
            for part, run in enumerate(row.runs)
        ]
