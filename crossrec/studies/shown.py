"""What every format shows of a paper table: its lines, headings, numbers and legend."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from crossrec.studies.table import Cell, Column, Table

EMPTY = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


class Span(NamedTuple):
    """A heading over neighbouring columns.

    Attributes:
        text: what it says.
        width: number of columns.
    """

    text: str
    width: int


class Line(NamedTuple):
    """A printed line of a table: the numbers of a row, or one kind of detail below them.

    Attributes:
        row: name of the row.
        kind: ``value``, or one of the keys of ``DETAILS``.
        cells: of the row, a column each.
    """

    row: str
    kind: str
    cells: tuple[Cell, ...]


def signed(value: float, digits: int = 4) -> str:
    """``value`` with its sign; zero is positive."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", MINUS)


def number(cell: Cell) -> tuple[str, str]:
    """Mean and standard deviation, 4 decimals; a dash without a run, no deviation below two seeds."""
    if not cell.values or cell.mean is None:
        return EMPTY, ""
    std = f"{cell.std:.4f}" if cell.std is not None and len(cell.values) > 1 else ""
    return f"{round(cell.mean, 4) + 0.0:.4f}".replace("-", MINUS), std


def stars(cell: Cell) -> str:
    """Stars of the comparison with the baseline; none without a run."""
    return cell.comparison.stars if cell.comparison is not None and cell.values else ""


def place(cell: Cell) -> int | None:
    """Place in the column, 1 or 2; None without a run."""
    return cell.place if cell.values else None


def _published(cell: Cell) -> str:
    if cell.published is None:
        return ""
    return f"{cell.published:.4f}" + ("" if cell.published_std is None else f" ± {cell.published_std:.4f}")


def _difference(cell: Cell) -> str:
    return signed(cell.difference) if cell.values and cell.difference is not None else ""


def _gain(cell: Cell) -> str:
    if not cell.values or cell.gain is None:
        return ""
    ends = cell.comparison.relative if cell.comparison is not None else None
    interval = "" if ends is None else f" [{', '.join(signed(100 * end, 1) for end in ends)}]"
    return f"{signed(100 * cell.gain, 1)}%{interval}"


def _status(cell: Cell) -> str:
    if cell.status == "partial":
        return f"partial {len(cell.values)}/{cell.expected}"
    return "" if cell.status == "run" else cell.status


DETAILS: dict[str, Callable[[Cell], str]] = {
    "published": _published,
    "difference": _difference,
    "gain": _gain,
    "status": _status,
}
"""What is said below a number: kind -> its text, empty where there is nothing to say."""


def halves(text: str) -> tuple[str, str]:
    """Part a detail into what stands below the mean and what follows: a deviation or an interval, else nothing.

    >>> halves("+1.2% [+0.4, +2.0]"), halves("0.2540 ± 0.0010"), halves("differs")
    (('+1.2%', ' [+0.4, +2.0]'), ('0.2540', ' ± 0.0010'), ('differs', ''))
    """
    at = re.search(r" [±\[]", text)
    return (text[: at.start()], text[at.start() :]) if at else (text, "")


def one_line(text: str) -> str:
    """``text`` with every run of white space made one space."""
    return " ".join(text.split())


def lines(table: Table) -> list[Line]:
    """Lines of a table in their order; details that say nothing about a row are left out."""
    found = []
    for row in table.rows:
        cells = tuple(table.cells[row, column] for column in table.columns)
        found.append(Line(row, "value", cells))
        found += [Line(row, kind, cells) for kind, say in DETAILS.items() if any(say(cell) for cell in cells)]
    return found


def column_names(table: Table) -> list[tuple[str, ...]]:
    """Headings of each column, outermost first; a data set or domain that all columns share is left out."""
    return [tuple(one_line(column[level]) for level in _levels(table.columns)) for column in table.columns]


def headings(table: Table) -> list[list[Span]]:
    """Lines of headings, outermost first; neighbours of the same name below the same heading are one span."""
    return spans(column_names(table))


def spans(names: Sequence[tuple[str, ...]]) -> list[list[Span]]:
    """Lines of headings over neighbouring columns of these ``names``, see :func:`column_names`."""
    made: list[list[Span]] = []
    for level in range(len(names[0]) if names else 0):
        line: list[Span] = []
        last = level == len(names[0]) - 1
        for i, name in enumerate(names):
            if i and not last and name[: level + 1] == names[i - 1][: level + 1]:
                line[-1] = Span(line[-1].text, line[-1].width + 1)
            else:
                line.append(Span(name[level], 1))
        made.append(line)
    return made


def heading(table: Table) -> str:
    """The title, followed by the data set and domain that all columns share."""
    shared = [table.columns[0][level] for level in (0, 1) if level not in _levels(table.columns)]
    said = ", ".join(one_line(name) for name in shared if name)
    return f"{one_line(table.title)} ({said})" if said else one_line(table.title)


def legend(table: Table, best: str, second: str) -> list[str]:
    """Sentences that the table needs to be understood, and no more.

    Args:
        table: the table.
        best: how the best value of a column is marked, e.g. ``bold``.
        second: how the second is marked.
    """
    cells = [table.cells[row, column] for row in table.rows for column in table.columns]
    run = [cell for cell in cells if cell.values]
    compared = [cell.comparison for cell in run if cell.comparison is not None]
    baseline = table.baseline or (compared[0].baseline if compared else "")
    said = []
    if any(number(cell)[1] for cell in run):
        counts = {len(cell.values) for cell in run}
        said.append(f"±: sample standard deviation over {f'{counts.pop()} ' if len(counts) == 1 else ''}seeds.")
    elif run:
        said.append("One seed a value.")
    places = {place(cell) for cell in run}
    if 1 in places:
        said.append(f"{best}: best of the column" + (f"; {second}: second." if 2 in places else "."))
    if any(c.stars for c in compared):
        said.append(
            f"*, **, ***: differs from {baseline} with p < .05, .01, .001 (two-sided paired test over users,"
            " Holm-adjusted over the comparisons of the table)."
        )
    elif compared:
        said.append(f"No difference from {baseline} has a Holm-adjusted p < .05 (two-sided paired test over users).")
    if any(_gain(cell) for cell in cells):
        said.append(
            f"gain: (mean {MINUS} mean of {baseline}) / mean of {baseline}"
            + ("; [ ]: 95% bootstrap interval over users." if any(c.relative for c in compared) else ".")
        )
    if any(_difference(cell) for cell in cells):
        said.append(f"difference: mean {MINUS} published value.")
    if table.tolerance and any(cell.status in ("reproduced", "differs") for cell in cells):
        said.append(f"reproduced, differs: within, outside the tolerance of the published value ({table.tolerance}).")
    if any(cell.status == "partial" for cell in cells):
        said.append("partial: seeds finished / asked for.")
    if any(cell.published is not None for cell in cells):
        said += [f"Published values: {table.source}."] if table.source else []
        said += [f"Published protocol: {table.protocol}."] if table.protocol else []
    return [re.sub(r"\.\.$", ".", one_line(sentence)) for sentence in (*said, *table.notes)]


def _levels(columns: Sequence[Column]) -> list[int]:
    return [level for level in (0, 1) if len({column[level] for column in columns}) > 1] + [2]
