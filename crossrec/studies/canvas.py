"""What the pictures of paper tables share: size, letters, intervals over seeds, files."""

from __future__ import annotations

import os
import textwrap
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from crossrec.errors import CrossrecError
from crossrec.studies.shown import heading, one_line
from crossrec.studies.table import Cell, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH = 7.0
"""Inches: a page of two columns."""
SIZE = 8
"""Points: of all text."""
DPI = 200


def interval(cell: Cell) -> float | None:
    """Half the width of the 95% t-interval of the mean over seeds, in units of the metric; None below two seeds."""
    from scipy.stats import t

    n = len(cell.values)
    return None if cell.std is None or n < 2 else float(t.ppf(0.975, n - 1) * cell.std / n**0.5)


def new_figure() -> Figure:
    """An empty figure that makes room for its text.

    Raises:
        CrossrecError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise CrossrecError("pictures need matplotlib: pip install 'crossrec[plots]'") from None
    return Figure(layout="constrained")


def wrapped(text: str, width: int) -> str:
    """``text`` on lines of at most ``width`` letters, with no letter that matplotlib takes for mathematics."""
    return "\n".join(textwrap.wrap(one_line(text), width)).replace("$", r"\$")


def finish(figure: Figure, table: Table, said: str) -> None:
    """Put the table's heading above and ``said`` below all panels; of a legend, ``said`` becomes the title."""
    width = int(figure.get_figwidth() * 15)
    figure.suptitle(wrapped(heading(table), width), fontsize=SIZE + 1)
    said = wrapped(said, int(figure.get_figwidth() * 16.5))
    if figure.legends:
        figure.legends[0].set_title(said)
        figure.legends[0].get_title().set_fontsize(SIZE - 1)
    elif said:
        figure.supxlabel(said, fontsize=SIZE - 1)
    for ax in figure.axes:
        ax.tick_params(labelsize=SIZE)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as .png (200 dpi) or .pdf (text stays text)."""
    import matplotlib

    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.with_name(f".{path.stem}.{uuid.uuid4().hex}{path.suffix}")
    try:
        with matplotlib.rc_context({"pdf.fonttype": 42, "hatch.linewidth": 0.5}):
            figure.savefig(name, dpi=DPI, metadata={"CreationDate": None} if path.suffix == ".pdf" else None)
        os.replace(name, path)
    except BaseException:
        name.unlink(missing_ok=True)
        raise
