"""Mean ranks of a table's rows: the Friedman test and the Nemenyi critical difference."""

from __future__ import annotations

from typing import NamedTuple

from crossrec.errors import CrossrecError
from crossrec.studies.table import Table

ALPHA = 0.05


class Ranks(NamedTuple):
    """Rows ranked within blocks; a block is a column and a seed for which every ranked row has a value.

    Attributes:
        rows: names, best mean rank first.
        means: mean rank of each; 1 is best, ties share the mean of their ranks.
        blocks: number of blocks.
        columns: number of columns that the blocks are from.
        statistic: of the Friedman test, corrected for ties; nan where every block is one tie.
        p: its p.
        difference: Nemenyi's critical difference of two mean ranks at .05.
        left_out: rows that have no run.
    """

    rows: tuple[str, ...]
    means: tuple[float, ...]
    blocks: int
    columns: int
    statistic: float
    p: float
    difference: float
    left_out: tuple[str, ...]

    def cliques(self) -> list[tuple[int, int]]:
        """First and last index of each largest group of rows whose mean ranks differ by less than ``difference``."""
        found: list[tuple[int, int]] = []
        for first, mean in enumerate(self.means):
            last = max(i for i, other in enumerate(self.means) if i == first or other - mean < self.difference)
            if last > first and (not found or last > found[-1][1]):
                found.append((first, last))
        return found


def critical_difference(rows: int, blocks: int, alpha: float = ALPHA) -> float:
    r"""Nemenyi's critical difference of mean ranks, :math:`q_\alpha \sqrt{k (k + 1) / (6 N)}`.

    Janez Demsar, "Statistical comparisons of classifiers over multiple data sets", JMLR 7, 2006, section 3.2.2;
    :math:`q_\alpha` is the studentized range at infinite degrees of freedom over :math:`\sqrt 2`.

    >>> round(critical_difference(4, 14), 2)
    1.25
    """
    from scipy.stats import studentized_range

    return float(
        studentized_range.ppf(1 - alpha, rows, float("inf")) / 2**0.5 * (rows * (rows + 1) / 6 / blocks) ** 0.5
    )


def mean_ranks(table: Table) -> Ranks:
    """Rank the rows of a table within every column and seed.

    Demsar's blocks are independent data sets. Domains, metrics and seeds of one study are less than that, so the
    critical difference is optimistic; it orders rows, the comparisons of the table test them. Where the table's best
    value of a column is its smallest, small values rank first.

    Raises:
        CrossrecError: fewer than three rows with runs, or fewer than two blocks.
    """
    import numpy as np
    from scipy.stats import friedmanchisquare, rankdata

    rows = [row for row in table.rows if any(table.cells[row, column].values for column in table.columns)]
    if len(rows) < 3:
        raise CrossrecError(f"no ranks of {table.name}: {len(rows)} of its rows have runs, three are needed")
    blocks: list[list[float]] = []
    columns = 0
    for column in table.columns:
        cells = [table.cells[row, column] for row in rows]
        placed = {cell.place: cell.mean for cell in cells if cell.mean is not None and cell.place is not None}
        sign = -1.0 if placed.get(1, 0.0) >= placed.get(2, placed.get(1, 0.0)) else 1.0
        values = [{value.seed: value.value for value in cell.values} for cell in cells]
        seeds = sorted(set.intersection(*(set(v) for v in values)))
        blocks += [[sign * v[seed] for v in values] for seed in seeds]
        columns += bool(seeds)
    if len(blocks) < 2:
        raise CrossrecError(
            f"no ranks of {table.name}: {len(blocks)} pairs of a column and a seed have a value of every row"
            f" ({', '.join(rows)}), two are needed"
        )
    array = np.array(blocks)
    means = rankdata(array, axis=1).mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        statistic, p = friedmanchisquare(*array.T)
    order = np.argsort(means, kind="stable")
    return Ranks(
        rows=tuple(rows[i] for i in order),
        means=tuple(float(means[i]) for i in order),
        blocks=len(blocks),
        columns=columns,
        statistic=float(statistic),
        p=float(p),
        difference=critical_difference(len(rows), len(blocks)),
        left_out=tuple(row for row in table.rows if row not in rows),
    )
