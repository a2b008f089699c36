"""A paper table in the terminal, in Markdown and as CSV."""

from __future__ import annotations

import csv as csv_module
import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from crossrec.studies.gaps import HEADER, LEGEND, TITLE, gap_block, mean_std
from crossrec.studies.shown import (
    DETAILS,
    EMPTY,
    MINUS,
    column_names,
    halves,
    heading,
    legend,
    lines,
    number,
    one_line,
    place,
    stars,
)  # fmt: skip
from crossrec.studies.table import Cell, Table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

FIELDS = (
    "row", "data", "domain", "metric", "mean", "std", "n", "expected", "status", "published", "published_std",
    "difference", "gain", "gain_low", "gain_high", "place", "baseline", "delta", "low", "high", "p_users", "p_adjusted",
    "p_seeds", "runs",
)  # fmt: skip
COMPARED = ("baseline", "difference", "low", "high", "p_users", "p_adjusted", "p_seeds")


def print_table(table: Table, console: Console | None = None) -> None:
    """Print a table to the terminal.

    Where columns do not fit side by side they follow below; in a pipe, lines are as long as they must be. Where no
    styles can be shown, the best and second value of a column are marked ``[1]`` and ``[2]``.

    Args:
        table: the table.
        console: where to print; standard output without one.
    """
    from rich.console import Console
    from rich.text import Text

    console = console or Console()
    plain, pipe = console.color_system is None, not console.is_terminal
    unicode = console.encoding.lower().startswith("utf")

    def text(words: str, style: str = "") -> Text:
        if not unicode:
            words = words.translate({ord(EMPTY): "-", ord(MINUS): "-", ord("±"): "+-"})
            words = words.encode("ascii", "replace").decode()
        return Text(words, style)

    printed = lines(table)
    labels = [text(one_line(x.row)) if x.kind == "value" else text(f"  {x.kind}", "dim") for x in printed]
    names = [text("\n".join(levels)) for levels in column_names(table)]
    columns = [[_terminal(x.kind, x.cells[i], plain, text) for x in printed] for i in range(len(names))]
    console.print(text(heading(table), "bold"), soft_wrap=pipe)
    _print_columns(console, labels, names, columns)
    for sentence in legend(table, *(("[1]", "[2]") if plain else ("bold", "underlined"))):
        console.print(text(sentence), soft_wrap=pipe)
    if table.gaps:
        block = gap_block(table)
        labels = [text("  " * line.level + line.label, "dim" if line.level else "") for line in block]
        columns = [
            [(text(line.cells[i][0]), text(_plus_minus(line.cells[i][1]))) for line in block]
            for i in range(len(HEADER))
        ]
        console.print()
        console.print(text(TITLE, "bold"), soft_wrap=pipe)
        _print_columns(console, labels, [text(name) for name in HEADER], columns)
        for sentence in LEGEND:
            console.print(text(sentence), soft_wrap=pipe)


def _print_columns(
    console: Console, labels: Sequence[Text], names: Sequence[Text], columns: Sequence[Sequence[tuple[Text, Text]]]
) -> None:
    """Print columns beside the rows' labels, in so many tables as the terminal's width asks for."""
    from rich import box
    from rich.table import Table as RichTable

    pipe = not console.is_terminal
    body = [_aligned(entries) for entries in columns]
    widths = [max(line.cell_len for line in (*name.split(), *entries)) for name, entries in zip(names, body)]
    first = max((label.cell_len for label in labels), default=1)
    first = first if pipe else min(first, max(16, console.width // 3))
    for chunk in _chunks(widths, None if pipe else console.width - first):
        shown = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        shown.add_column("", width=first, overflow="fold")
        for i in chunk:
            shown.add_column(names[i], width=widths[i], no_wrap=True)
        shown.width = first + sum(widths[i] + 3 for i in chunk)
        for row, label in enumerate(labels):
            shown.add_row(label, *(body[i][row] for i in chunk))
        console.print(shown, soft_wrap=True)
        console.print()


def _plus_minus(std: str) -> str:
    return f" ± {std}" if std else ""


def markdown(table: Table) -> str:
    """The table in GitHub's Markdown; names are escaped."""

    def line(words: Sequence[str]) -> str:
        return f"| {' | '.join(words)} |"

    names = ["<br>".join(_escape(level) for level in levels) for levels in column_names(table)]
    out = [f"**{_escape(heading(table))}**", "", line(["", *names]), "|:---" + "|---:" * len(names) + "|"]
    for x in lines(table):
        if x.kind == "value":
            out.append(line([_escape(one_line(x.row)), *(_markdown(cell) for cell in x.cells)]))
        else:
            out.append(line([f"&emsp;{x.kind}", *(_escape(DETAILS[x.kind](cell)) for cell in x.cells)]))
    out += ["", *(f"- {_escape(sentence)}" for sentence in legend(table, "bold", "underlined"))]
    if table.gaps:
        out += ["", f"**{TITLE}**", "", line(["", *HEADER]), "|:---" + "|---:" * len(HEADER) + "|"]
        for g in gap_block(table):
            words = [mean + _plus_minus(std) for mean, std in g.cells]
            out.append(line(["&emsp;" * g.level + _escape(g.label), *words]))
        out += ["", *(f"- {_escape(sentence)}" for sentence in LEGEND)]
    return "\n".join(out) + "\n"


def csv(table: Table) -> str:
    """The table in long form, a line for each row and column, with full precision and the ids of the runs.

    Domain gaps follow as metrics ``gap <space> <measure> <before or after>`` of the domain ``<one> - <other>``.
    """
    file = io.StringIO()
    writer = csv_module.writer(file, lineterminator="\n")
    writer.writerow(FIELDS)
    for row in table.rows:
        for column in table.columns:
            c = table.cells[row, column]
            ours = [c.mean, c.std] if c.values else [None, None]
            theirs = [c.published, c.published_std, c.difference if c.values else None]
            against = c.comparison if c.values else None
            compared = [getattr(against, k, None) for k in COMPARED]
            gain = [c.gain if c.values else None, *((against and against.relative) or (None, None))]
            runs = ";".join(value.id for value in c.values)
            counts = (len(c.values), c.expected, c.status)
            writer.writerow(map(_entry, (row, *column, *ours, *counts, *theirs, *gain, place(c), *compared, runs)))
    for g in table.gaps:
        for (measure, stage), values in g.values.items():
            n = len(values)
            status = "run" if n == g.expected else "partial" if n else "not run"
            named = (g.row, g.data, " - ".join(g.pair), f"gap {g.space} {measure} {stage}")
            rest = [None] * (len(FIELDS) - len(named) - 6)
            runs = ";".join(g.runs)
            writer.writerow(map(_entry, (*named, *mean_std(values), n, g.expected, status, *rest, runs)))
    return file.getvalue()


def _entry(value: object) -> object:
    return "" if value is None else repr(float(value)) if isinstance(value, float) else value


def _terminal(kind: str, cell: Cell, plain: bool, text: Callable[..., Text]) -> tuple[Text, Text]:
    """What stands before and after the end of the mean."""
    if kind == "value":
        mean, std = number(cell)
        mark = place(cell)
        tail = (f" ± {std}" if std else "") + stars(cell) + (f" [{mark}]" if plain and mark in (1, 2) else "")
        return text(mean, "" if plain else {1: "bold", 2: "underline"}.get(mark or 0, "")), text(tail)
    words = DETAILS[kind](cell)
    if kind == "status":
        return text(""), text(words, {"reproduced": "green", "differs": "red"}.get(words, "yellow"))
    head, tail = halves(words)
    return text(head, "dim"), text(tail, "dim")


def _aligned(entries: Sequence[tuple[Text, Text]]) -> list[Text]:
    """Entries of a column: means end at the same place, words without a mean start with the column."""
    from rich.text import Text

    width = max((head.cell_len for head, _ in entries), default=0)
    pads = [width - head.cell_len if head else 0 for head, _ in entries]
    return [Text(" " * pad).append_text(head).append_text(tail) for pad, (head, tail) in zip(pads, entries)]


def _chunks(widths: Sequence[int], room: int | None) -> list[list[int]]:
    """Column indices of each table to print, so many as fit in ``room`` characters beside the row names."""
    chunks: list[list[int]] = []
    used = 0
    for i, width in enumerate(widths):
        if not chunks or (room is not None and used + width + 3 > room):
            chunks.append([])
            used = 0
        chunks[-1].append(i)
        used += width + 3
    return chunks


def _escape(text: str) -> str:
    entities = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]#|~$])", r"\\\1", entities)


def _markdown(cell: Cell) -> str:
    mean, std = number(cell)
    mean = {1: f"**{mean}**", 2: f"<ins>{mean}</ins>"}.get(place(cell) or 0, mean)
    return mean + (f" ± {std}" if std else "") + (f" {_escape(stars(cell))}" if stars(cell) else "")
