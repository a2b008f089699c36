"""A paper table as a LaTeX ``table`` environment."""

from __future__ import annotations

import re
from collections.abc import Sequence

from crossrec.studies.shown import (
    DETAILS,
    Span,
    heading,
    headings,
    legend,
    lines,
    number,
    one_line,
    place,
    stars,
)
from crossrec.studies.table import Cell, Table

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "{''}", "[": "{[}", "]": "{]}", "*": "{*}", "`": "{`}", "'": "{'}", "±": r"$\pm$",
    "\N{EN DASH}": "--", "\N{EM DASH}": "---", "\N{MINUS SIGN}": "$-$", "×": r"$\times$", "≤": r"$\leq$",
    "≥": r"$\geq$", "→": r"$\rightarrow$", "·": r"$\cdot$", "\N{NO-BREAK SPACE}": "~",
}  # fmt: skip


def escape(text: str) -> str:
    """``text`` as LaTeX that typesets to it, safe also at the start of a table row."""
    return "".join(SPECIAL.get(letter, letter) for letter in one_line(text))


def latex(table: Table) -> str:
    r"""The table as a ``table`` environment (``table*`` beyond four columns) with caption and label.

    The document needs ``\usepackage{booktabs}`` and nothing else; the label is ``tab:`` and the name of the study.
    """
    count = len(table.columns)
    environment = "table*" if count > 4 else "table"
    size = r"\scriptsize" if count > 6 else r"\footnotesize" if count > 4 else r"\small"
    label = re.sub(r"[^A-Za-z0-9.-]+", "-", table.name).strip("-")
    out = [
        r"% needs \usepackage{booktabs}",
        rf"\begin{{{environment}}}[tb]",
        r"\centering",
        rf"\caption{{{escape(heading(table))}}}",
        rf"\label{{tab:{label}}}",
        size,
        r"\setlength{\tabcolsep}{4pt}",
        rf"\begin{{tabular}}{{@{{}}l{'r' * count}@{{}}}}",
        r"\toprule",
    ]
    levels = headings(table)
    for level in levels[:-1]:
        out += _spanning(level)
    if levels:
        out.append(_row("", [rf"\multicolumn{{1}}{{c}}{{{escape(span.text)}}}" for span in levels[-1]]))
    out.append(r"\midrule")
    printed = lines(table)
    spaced = any(line.kind != "value" for line in printed)
    for i, line in enumerate(printed):
        if line.kind == "value":
            out += [r"\addlinespace"] if i and spaced else []
            out.append(_row(escape(line.row), [_value(cell) for cell in line.cells]))
        else:
            out.append(
                _row(
                    rf"\quad {line.kind}",
                    [_number(*DETAILS[line.kind](cell).partition(" ± ")[::2]) for cell in line.cells],
                )
            )
    out += [r"\bottomrule", r"\end{tabular}"]
    sentences = legend(table, "Bold", "underlined")
    if sentences:
        out += [r"\par\smallskip", r"\begin{minipage}{\linewidth}", r"\footnotesize"]
        out += [*(escape(sentence) for sentence in sentences), r"\end{minipage}"]
    return "\n".join([*out, rf"\end{{{environment}}}"]) + "\n"


def _row(label: str, entries: Sequence[str]) -> str:
    return " & ".join([label, *entries]) + r" \\"


def _spanning(level: Sequence[Span]) -> list[str]:
    rules, first = [], 2
    for span in level:
        rules.append(rf"\cmidrule(lr){{{first}-{first + span.width - 1}}}")
        first += span.width
    entries = [rf"\multicolumn{{{span.width}}}{{c}}{{{escape(span.text)}}}" for span in level]
    return [_row("", entries), "".join(rules)]


def _number(mean: str, std: str, style: str = "") -> str:
    shown = rf"{style}{{{escape(mean)}}}" if style else escape(mean)
    return shown + (rf"{{\tiny $\pm$ {std}}}" if std else "")


def _value(cell: Cell) -> str:
    style = {1: r"\textbf", 2: r"\underline"}.get(place(cell) or 0, "")
    return _number(*number(cell), style) + (f"$^{{{stars(cell)}}}$" if stars(cell) else "")
