"""A paper table as a LaTeX ``table`` environment."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from crossrec.studies.gaps import HEADER, LEGEND, TITLE, gap_block
from crossrec.studies.latex_text import escape, unknown
from crossrec.studies.shown import (
    DETAILS,
    MINUS,
    Line,
    Span,
    column_names,
    halves,
    heading,
    legend,
    lines,
    number,
    place,
    spans,
    stars,
)
from crossrec.studies.table import Cell, Table


def latex(table: Table) -> str:
    r"""The table as a ``table`` environment with caption and label; ``table*`` where a column of text is too narrow.

    The document needs ``\usepackage{booktabs}`` and, for letters that a comment in the first lines names, a font
    encoding or an engine that has them; the label is ``tab:`` and the name of the study. Columns that do not fit beside
    each other, in the 12 cm of text of a one-column article, go below each other, in panels that repeat the rows.
    Numbers are aligned at their decimal point: deviations and stars have a column of the ``tabular`` to themselves.
    """
    printed = lines(table)
    paired = any(number(cell)[1] or stars(cell) for line in printed for cell in line.cells)
    panels = _panels(column_names(table), 4 if paired else 6)
    width = max(len(panel) for panel in panels)
    environment = "table" if width <= (2 if paired else 3) else "table*"
    label = re.sub(r"[^A-Za-z0-9.-]+", "-", table.name).strip("-")
    out = [
        rf"\begin{{{environment}}}[tb]",
        r"\centering",
        rf"\caption{{{escape(heading(table))}}}",
        rf"\label{{tab:{label}}}",
        r"\small" if environment == "table" else r"\footnotesize",
        r"\setlength{\tabcolsep}{3pt}",
        r"\setlength{\abovetopsep}{1ex}",
        rf"\begin{{tabular}}{{@{{}}l{('r@{}l' if paired else 'r') * width}@{{}}}}",
        r"\toprule",
    ]
    for i, panel in enumerate(panels):
        out += [r"\midrule"] if i else []
        out += _panel(table, printed, panel, paired)
    out += [r"\bottomrule", r"\end{tabular}"]
    sentences = legend(table, "Bold", "underlined")
    if sentences:
        out += [r"\par\smallskip", r"\begin{minipage}{\linewidth}", r"\footnotesize"]
        out += [*(escape(sentence) for sentence in sentences), r"\end{minipage}"]
    out.append(rf"\end{{{environment}}}")
    out += _gaps(table, label) if table.gaps else []
    return "\n".join([*_needs(table, sentences), *out]) + "\n"


def _gaps(table: Table, label: str) -> list[str]:
    """The domain gaps as a ``table`` of its own, labelled ``tab:<study>-gap``."""
    body = []
    for i, line in enumerate(gap_block(table)):
        body += [r"\addlinespace"] if i and line.level == 0 else []
        cells = [escape(mean) + _deviation(std) for mean, std in line.cells]
        body.append(_row(r"\quad " * line.level + escape(line.label), cells))
    return [
        r"\begin{table}[tb]",
        r"\centering",
        rf"\caption{{{escape(f'{TITLE}: {heading(table)}')}}}",
        rf"\label{{tab:{label}-gap}}",
        r"\footnotesize",
        r"\setlength{\tabcolsep}{3pt}",
        rf"\begin{{tabular}}{{@{{}}l{'r' * len(HEADER)}@{{}}}}",
        r"\toprule",
        _row("", [escape(name) for name in HEADER]),
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\smallskip",
        r"\begin{minipage}{\linewidth}",
        r"\footnotesize",
        *(escape(sentence) for sentence in LEGEND),
        r"\end{minipage}",
        r"\end{table}",
    ]


def _needs(table: Table, sentences: Sequence[str]) -> list[str]:
    """Comments on what the document must load."""
    names = [name for names in column_names(table) for name in names]
    names += [line.label for line in gap_block(table)]
    missing = unknown(" ".join([heading(table), *names, *table.rows, *sentences]))
    said = [r"% needs \usepackage{booktabs}"]
    if missing:
        said.append(
            rf"% needs, for {' '.join(missing)}: \usepackage[T1]{{fontenc}} if it is Latin, or XeLaTeX or LuaLaTeX and"
            " a font that has it"
        )
    return said


def _panels(names: Sequence[tuple[str, ...]], most: int) -> list[range]:
    """Columns to show side by side, at most so many: whole data sets together where they fit, else whole domains."""
    for level in range(len(names[0]) - 1):
        groups = [len(list(same)) for _, same in groupby(names, key=lambda name: name[: level + 1])]
        if max(groups) <= most:
            break
    else:  # single columns, shared out evenly
        groups = [1] * len(names)
        most = -(-len(names) // -(-len(names) // most))
    panels = [range(0)]
    for size in groups:
        last = panels[-1]
        if last and len(last) + size > most:
            panels.append(range(last.stop, last.stop + size))
        else:
            panels[-1] = range(last.start, last.stop + size)
    return panels


def _panel(table: Table, printed: Sequence[Line], panel: range, paired: bool) -> list[str]:
    """Headings and rows of the columns of a panel."""
    names = column_names(table)
    levels = spans([names[i] for i in panel])
    across = 2 if paired else 1
    out: list[str] = []
    for level in levels[:-1]:
        out += _spanning(level, across)
    metrics = [rf"\multicolumn{{{across}}}{{c}}{{{escape(span.text)}}}" for span in levels[-1]]
    out += [_row("", metrics), r"\midrule"]
    spaced = any(line.kind != "value" for line in printed)
    for i, line in enumerate(printed):
        cells = [line.cells[i] for i in panel]
        if line.kind == "value":
            out += [r"\addlinespace"] if i and spaced else []
            out.append(_row(escape(line.row), [_value(cell, paired) for cell in cells]))
        elif any(DETAILS[line.kind](cell) for cell in cells):
            out.append(_row(rf"\quad {line.kind}", [_detail(line.kind, cell, paired) for cell in cells]))
            if line.kind == "gain" and any(halves(DETAILS["gain"](cell))[1] for cell in cells):
                out.append(_row("", [_interval(cell, paired) for cell in cells]))
    return out


def _row(label: str, entries: Sequence[str]) -> str:
    return " & ".join([label, *entries]) + r" \\"


def _spanning(level: Sequence[Span], across: int) -> list[str]:
    rules, first = [], 2
    for span in level:
        rules.append(rf"\cmidrule(lr){{{first}-{first + span.width * across - 1}}}")
        first += span.width * across
    entries = [rf"\multicolumn{{{span.width * across}}}{{c}}{{{escape(span.text)}}}" for span in level]
    return [_row("", entries), "".join(rules)]


def _value(cell: Cell, paired: bool) -> str:
    mean, std = number(cell)
    style = {1: r"\textbf", 2: r"\underline"}.get(place(cell) or 0, "")
    shown = rf"{style}{{{escape(mean)}}}" if style else escape(mean)
    return f"{shown} & {_deviation(std)}" + (f"$^{{{stars(cell)}}}$" if stars(cell) else "") if paired else shown


def _detail(kind: str, cell: Cell, paired: bool) -> str:
    shown, tail = halves(DETAILS[kind](cell))
    if kind == "status":  # longer than the numbers, which it would push apart
        return rf"\multicolumn{{2}}{{r}}{{{shown}}}" if paired else shown
    sign = shown[:1] if shown[:1] in ("+", MINUS) else ""
    digits = shown.removeprefix(sign).removesuffix("%")
    # signs hang out to the left: with them a column would be wider than its means
    mean = rf"\llap{{{escape(sign)}}}{digits}" if sign else digits
    rest = (r"\%" if shown.endswith("%") else "") + _deviation(tail.removeprefix(" ± ") if kind != "gain" else "")
    return f"{mean} & {rest}" if paired else mean + rest


def _interval(cell: Cell, paired: bool) -> str:
    """Interval of the gain, which has a line to itself: behind the gain it would widen the column."""
    shown = rf"{{\scriptsize {escape(halves(DETAILS['gain'](cell))[1].strip())}}}"
    return rf"\multicolumn{{2}}{{r}}{{{shown}}}" if paired else shown


def _deviation(std: str) -> str:
    return rf"{{\tiny\,$\pm$\,{std}}}" if std else ""
