"""Pictures of a paper table: bars, ablation curves and the critical difference diagram."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from crossrec.errors import CrossrecError
from crossrec.studies.canvas import SIZE, WIDTH, finish, interval, new_figure, save, wrapped
from crossrec.studies.curve import curve_figure
from crossrec.studies.ranks import mean_ranks
from crossrec.studies.shown import column_names
from crossrec.studies.table import Column, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREYS = ("0.6", "0.95", "0.75", "0.87", "0.5", "1.0", "0.68")
HATCHES = ("", "///", "...", "xx", "", "\\\\\\", "++")


def bars_figure(table: Table) -> Figure:
    """A panel for each column: rows as bars, 95% t-intervals over seeds, published values as diamonds.

    Raises:
        CrossrecError: nothing has run, or matplotlib is missing.
    """
    figure = new_figure()
    if not any(cell.values for cell in table.cells.values()):
        raise CrossrecError(f"no bars of {table.name}: nothing has run")
    across = min(4, len(table.columns))
    down = -(-len(table.columns) // across)
    labels = [wrapped(row, 26) for row in table.rows]
    height = sum(0.12 + 0.13 * (1 + label.count("\n")) for label in labels)
    figure.set_size_inches(WIDTH if across > 2 else (3.5, 5.2)[across - 1], down * (max(height, 0.6) + 0.75) + 0.5)
    axes = figure.subplots(down, across, squeeze=False, sharey=True)
    for ax, column, names in zip(axes.flat, table.columns, column_names(table)):
        _panel(ax, table, column)
        ax.set_title("\n".join(wrapped(name, 22) for name in names[:-1]), fontsize=SIZE)
        ax.set_xlabel(wrapped(names[-1], 22), fontsize=SIZE)
    for ax in axes.flat[len(table.columns) :]:
        ax.set_axis_off()
    axes[0, 0].set_yticks(range(len(labels)), labels)
    axes[0, 0].set_ylim(len(labels) - 0.4, -0.6)
    said = ["lines: 95% t-interval over seeds"] if any(interval(c) is not None for c in table.cells.values()) else []
    said += ["diamonds: published"] if any(c.published is not None for c in table.cells.values()) else []
    finish(figure, table, "; ".join(said))
    return figure


def critical_difference_figure(table: Table) -> Figure:
    """Demsar's diagram: rows at their mean rank, a bar over those that Nemenyi's test does not tell apart.

    See :func:`crossrec.studies.ranks.mean_ranks` for the blocks.

    Raises:
        CrossrecError: fewer than three rows with runs or two complete blocks, or matplotlib is missing.
    """
    figure = new_figure()
    ranks = mean_ranks(table)
    count, cliques = len(ranks.rows), ranks.cliques()
    left = (count + 1) // 2
    labels = [
        wrapped(f"{row} ({mean:.2f})" if i < left else f"({mean:.2f}) {row}", 26)
        for i, (row, mean) in enumerate(zip(ranks.rows, ranks.means))
    ]
    step = 0.13 * (1 + max(label.count("\n") for label in labels)) + 0.08
    bottom = -0.25 - 0.1 * len(cliques) - step * (left - 0.5)
    figure.set_size_inches(WIDTH, 0.6 - bottom + 0.75)
    ax = figure.subplots()
    margin = 0.55 * (count - 1)
    ax.set(xlim=(1 - margin, count + margin), ylim=(bottom, 0.6))
    ax.set_axis_off()
    ax.plot([1, count], [0, 0], color="black", linewidth=1)
    for rank in range(1, count + 1, 1 + count // 15):
        ax.plot([rank, rank], [0, 0.08], color="black", linewidth=1)
        ax.text(rank, 0.1, str(rank), ha="center", va="bottom", fontsize=SIZE)
    for i, (label, mean) in enumerate(zip(labels, ranks.means)):
        before = i < left
        y = -0.25 - 0.1 * len(cliques) - step * (i if before else count - 1 - i)
        end = 1 - 0.05 * margin if before else count + 0.05 * margin
        ax.plot([mean, mean, end], [0, y, y], color="black", linewidth=0.8)
        ax.text(
            end + (-0.03 if before else 0.03) * margin, y, label,
            ha="right" if before else "left", va="center", fontsize=SIZE,
        )  # fmt: skip
    for i, (first, last) in enumerate(cliques):
        pad = 0.015 * (count - 1)
        y = -0.1 - 0.1 * i
        ax.plot([ranks.means[first] - pad, ranks.means[last] + pad], [y, y], color="black", linewidth=3)
    ax.plot([1, 1 + ranks.difference], [0.36, 0.36], color="black", linewidth=1, marker="|", markersize=6)
    ax.text(1, 0.42, f"critical difference {ranks.difference:.2f}", ha="left", va="bottom", fontsize=SIZE)
    said = f"mean rank over {ranks.blocks} blocks (a column and a seed each), 1 is best"
    said += f"; Friedman p = {ranks.p:.2g}"
    said += "; Nemenyi at .05" if ranks.p < 0.05 else ", so that no difference is shown; Nemenyi at .05"
    said += f"; no run: {', '.join(ranks.left_out)}" if ranks.left_out else ""
    finish(figure, table, said)
    return figure


def draw(table: Table, folder: Path, say: Callable[[str], object] | None = None) -> list[Path]:
    """Draw the pictures that the table has the runs for, each as .png and .pdf.

    Args:
        table: the table.
        folder: where to write ``bars``, ``curve`` and ``critical_difference``; made if need be.
        say: told in a sentence why a picture is not drawn.

    Returns:
        The files written.

    Raises:
        CrossrecError: matplotlib is missing.
    """
    new_figure()
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, make in (
        ("bars", bars_figure),
        ("curve", curve_figure),
        ("critical_difference", critical_difference_figure),
    ):
        if name == "curve" and not table.parameters:
            continue
        try:
            figure = make(table)
        except CrossrecError as error:
            if say is not None:
                say(str(error))
            continue
        for suffix in (".png", ".pdf"):
            written.append(folder / f"{name}{suffix}")
            save(figure, written[-1])
    return written


def _panel(ax: Axes, table: Table, column: Column) -> None:
    for y, row in enumerate(table.rows):
        cell = table.cells[row, column]
        if cell.values and cell.mean is not None:
            grey, hatch = GREYS[y % len(GREYS)], HATCHES[y % len(HATCHES)]
            ax.barh(y, cell.mean, height=0.7, color=grey, hatch=hatch, edgecolor="black", linewidth=0.6)
            half = interval(cell)
            if half is not None:
                ax.errorbar(cell.mean, y, xerr=half, color="black", linewidth=1, capsize=2.5, zorder=6)
        else:
            ax.text(0.02, y, "not run", transform=ax.get_yaxis_transform(), va="center", style="italic", fontsize=SIZE)
        if cell.published is not None:
            ax.plot(cell.published, y, "D", color="white", markeredgecolor="black", markersize=5, zorder=5)
    ax.locator_params(axis="x", nbins=4)
    ax.spines[["top", "right"]].set_visible(False)
