"""What a paper table is: rows, columns and cells, each with the run folders behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Status = Literal["reproduced", "differs", "run", "partial", "not run"]
"""Of a cell: within or outside the tolerance of the published value; run, where nothing is published; partial, where
some seeds are missing; not run."""


def series(row: str, parameter: str) -> str:
    """Name in the study of the rows that it made from a list of values, by one of them.

    >>> series("mmd weight=0.1", "adaptation.mmd.weight")
    'mmd'
    """
    return row.rpartition(f" {parameter.rpartition('.')[2]}=")[0] or row


class Column(NamedTuple):
    """What a column shows.

    Attributes:
        data: name of the data set in the study.
        domain: name of the domain evaluated, or ``macro``, the mean over domains.
        metric: such as ``ndcg@10``.
    """

    data: str
    domain: str
    metric: str


class Value(NamedTuple):
    """A metric of one run, of the study's stage.

    Attributes:
        seed: of the run.
        value: the metric, in its own unit.
        run: the run folder.
    """

    seed: int
    value: float
    run: str

    @property
    def id(self) -> str:
        """The run id, by which files that leave this machine name the run."""
        return self.run.rpartition("/")[2]


@dataclass(frozen=True)
class Comparison:
    """A cell's row against the baseline row, in one column.

    Attributes:
        baseline: name of the baseline row.
        difference: mean over users of (row - baseline), each user's value averaged over the common seeds.
        low: lower end of the bootstrap interval of the difference.
        high: its upper end.
        p_users: two-sided p of the paired test over users.
        p_adjusted: ``p_users`` corrected by Holm over all comparisons of the table.
        p_seeds: two-sided p of the paired test over seeds; None with fewer than two common seeds.
        n_users: users compared.
        n_seeds: common seeds.
        relative: ``low`` and ``high`` as shares of the baseline's mean over the compared users; None where that is 0.
    """

    baseline: str
    difference: float
    low: float
    high: float
    p_users: float
    p_adjusted: float
    p_seeds: float | None
    n_users: int
    n_seeds: int
    relative: tuple[float, float] | None = None

    @property
    def stars(self) -> str:
        """``***``, ``**`` or ``*`` where the adjusted p is below .001, .01 or .05."""
        return "***" if self.p_adjusted < 0.001 else "**" if self.p_adjusted < 0.01 else "*" * (self.p_adjusted < 0.05)


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    Attributes:
        row: name of the row.
        column: of the cell.
        values: one for each seed that is finished; empty when nothing has run.
        expected: number of seeds the study asks for.
        mean: over seeds; None without a value.
        std: sample standard deviation over seeds; None with fewer than two.
        published: the published value; None without one.
        published_std: its published standard deviation, if any.
        status: how the cell stands.
        gain: (mean - baseline mean) / baseline mean, the transfer gain; None without a baseline or for it.
        place: 1 for the best row of the column, 2 for the second, None for the others.
        comparison: against the baseline row; None without one or for it.
    """

    row: str
    column: Column
    values: tuple[Value, ...]
    expected: int
    mean: float | None = None
    std: float | None = None
    published: float | None = None
    published_std: float | None = None
    status: Status = "not run"
    gain: float | None = None
    place: int | None = None
    comparison: Comparison | None = None

    @property
    def difference(self) -> float | None:
        """Ours minus the published value."""
        return None if self.mean is None or self.published is None else self.mean - self.published


@dataclass(frozen=True)
class GapLine:
    """How far apart two domains are in one space, over the runs of a row.

    Attributes:
        row: name of the row; of one of its runs where it has several.
        data: name of the data set in the study.
        space: ``users`` or ``items``.
        pair: names of the domains.
        runs: ids of the measured runs, by seed.
        values: (measure, ``before`` or ``after``) -> its value in each of ``runs``; a measure is ``mmd`` (MMD^2),
            ``coral`` or ``pad``, see :class:`~crossrec.evaluation.gap.Gap`.
        expected: number of seeds the study asks for.
    """

    row: str
    data: str
    space: str
    pair: tuple[str, str]
    runs: tuple[str, ...]
    values: Mapping[tuple[str, str], tuple[float, ...]]
    expected: int


@dataclass(frozen=True)
class Table:
    """A table of a study.

    Attributes:
        name: of the study; good as a file name.
        title: one line.
        rows: names in their order.
        columns: in their order.
        cells: (row, column) -> cell; every pair of a row and a column has one.
        baseline: name of the row that others are compared with; None without one.
        tolerance: the rule for ``reproduced``, in words; empty when nothing is published.
        source: where the published values are from; empty when nothing is published.
        protocol: how they were measured; empty when nothing is published.
        notes: sentences to print below the table.
        parameters: row -> (ablation parameter, value), for rows that a study made from a list of values.
        gaps: the domain gap of the rows, where the study reports it.
    """

    name: str
    title: str
    rows: tuple[str, ...]
    columns: tuple[Column, ...]
    cells: Mapping[tuple[str, Column], Cell]
    baseline: str | None = None
    tolerance: str = ""
    source: str = ""
    protocol: str = ""
    notes: tuple[str, ...] = ()
    parameters: Mapping[str, tuple[str, float | str]] = field(default_factory=dict)
    gaps: tuple[GapLine, ...] = ()
