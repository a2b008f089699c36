"""Example tables for the tests of what is made of them."""

from collections.abc import Mapping, Sequence

from crossrec.studies.table import Cell, Column, Comparison, Status, Table, Value

SPECIAL = "a_b & c|d <e> 50%"
BASELINE = "target_only"
COLUMNS = tuple(
    Column(data, domain, metric)
    for data in ("movielens", "food & kitchen")
    for domain in ("ml-1m", "ml_100k")
    for metric in ("recall@10", "ndcg@10")
)


def cell(
    row: str,
    column: Column,
    values: Sequence[float],
    expected: int = 3,
    published: float | None = None,
    published_std: float | None = None,
    tolerance: float = 0.005,
    baseline: float | None = None,
    place: int | None = None,
    p: float | None = None,
) -> Cell:
    """A cell whose mean, deviation, status and gain follow from its values; the seeds count from 0."""
    n = len(values)
    mean = sum(values) / n if n else None
    std = (sum((v - mean) ** 2 for v in values) / (n - 1)) ** 0.5 if mean is not None and n > 1 else None
    status: Status = "run"
    if n < expected:
        status = "partial" if n else "not run"
    elif published is not None and mean is not None:
        status = "reproduced" if abs(mean - published) <= tolerance else "differs"
    gain = comparison = None
    if baseline and mean is not None:
        gain = (mean - baseline) / baseline
        if p is not None:
            d = mean - baseline
            ends = ((d - 0.01) / baseline, (d + 0.01) / baseline)
            comparison = Comparison(BASELINE, d, d - 0.01, d + 0.01, p / 3, p, 0.2 if n > 1 else None, 500, n, ends)
    runs = tuple(Value(seed, value, f"{row.split()[0]}-{column.metric}-{seed}") for seed, value in enumerate(values))
    return Cell(row, column, runs, expected, mean, std, published, published_std, status, gain, place, comparison)


def example() -> Table:
    """2 data sets x 2 domains x 2 metrics; rows published, with stars and odd letters, partial, and not run."""
    cells = {}
    for i, column in enumerate(COLUMNS):
        base = 0.2 + 0.03 * i
        near = [base + d for d in (-0.004, 0.0, 0.004)]
        better = [base + 0.0312345678901234 + d for d in (-0.001, 0.0, 0.001)]
        close = base + 0.002 if i % 2 else base + 0.02
        cells[BASELINE, column] = cell(BASELINE, column, near, published=close, published_std=0.001)
        best = cell(SPECIAL, column, better, baseline=base, place=1, p=(0.0004, 0.004, 0.04, 0.4)[i % 4])
        cells[SPECIAL, column] = best
        cells["merged", column] = cell("merged", column, [base + 0.01], baseline=base, place=2)
        cells["never run", column] = cell("never run", column, [], published=0.5)
    return Table(
        name="table_2 & more",
        title="Cross-domain gain of 50% on a_b",
        rows=(BASELINE, SPECIAL, "merged", "never run"),
        columns=COLUMNS,
        cells=cells,
        baseline=BASELINE,
        tolerance="0.005",
        source="Doe & Roe 2020, table 2",
        protocol="leave-one-out, 99 negatives",
        notes=("Users of both domains only [see #1].",),
    )


def plain(values: Mapping[str, Sequence[Sequence[float]]], columns: Sequence[Column] | None = None) -> Table:
    """A table of nothing but numbers: row -> column -> seed -> value."""
    count = len(next(iter(values.values())))
    columns = columns or [Column("", "macro", f"metric@{i}") for i in range(count)]
    most = max(1, *(len(seeds) for row in values.values() for seeds in row))
    return Table(
        name="plain",
        title="Plain",
        rows=tuple(values),
        columns=tuple(columns),
        cells={(row, c): cell(row, c, seeds, most) for row in values for c, seeds in zip(columns, values[row])},
    )


def ablation(values: Sequence[float | str] = (0, 0.001, 0.01, 0.1, 1)) -> Table:
    """A baseline and rows ``mmd weight=...`` over 2 domains and 2 metrics, 3 seeds; the last row has not run."""
    columns = tuple(Column("data", domain, metric) for domain in ("books", "films") for metric in ("hit@5", "ndcg@5"))
    rows = {f"mmd weight={value}": value for value in values}
    cells = {}
    for i, column in enumerate(columns):
        base = 0.2 + 0.05 * i
        cells[BASELINE, column] = cell(BASELINE, column, [base - 0.002, base, base + 0.002])
        for j, row in enumerate(rows):
            mean = base + 0.01 * j - 0.001 * j * j
            seeds = [mean - 0.003, mean, mean + 0.003] if j < len(rows) - 1 else []
            cells[row, column] = cell(row, column, seeds, baseline=base)
    return Table(
        name="ablation",
        title="Weight of the term",
        rows=(BASELINE, *rows),
        columns=columns,
        cells=cells,
        baseline=BASELINE,
        parameters={row: ("adaptation.mmd.weight", value) for row, value in rows.items()},
    )


TABLES = [example, ablation, lambda: plain({"a": [[0.1]], "b": [[]]}), lambda: plain({"[1] *x*": [[], []]})]
"""Makers of tables of every kind."""
