"""A table's metrics against an ablation parameter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from crossrec.errors import CrossrecError
from crossrec.studies.canvas import SIZE, WIDTH, finish, interval, new_figure, wrapped
from crossrec.studies.table import Cell, Column, Table, series

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GREYS = ("0.0", "0.45", "0.25", "0.6")
MARKERS = "osD^vP*X"
STYLES = ("-", (0, (5, 1)), "-.", (0, (1, 1)))


def curve_figure(table: Table) -> Figure:
    """The metrics against an ablation parameter: a panel for each metric, a line for each data set and domain.

    Values and their 95% t-intervals over seeds; the baseline row is a dashed line with hollow markers, its interval a
    band. The parameter's axis is logarithmic where its positive values span more than a factor of 20, linear up to the
    smallest of them where 0 is one of the values, and names the values where they are words.

    Raises:
        CrossrecError: no row with a parameter has run, or matplotlib is missing.
    """
    figure = new_figure()
    rows = [r for r in table.parameters if any(table.cells[r, c].values for c in table.columns)]
    if not rows:
        raise CrossrecError(f"no curve of {table.name}: no row with a parameter (over: in the study) has run")
    keys = list(dict.fromkeys(table.parameters[row][0] for row in rows))
    metrics = list(dict.fromkeys(column.metric for column in table.columns))
    panels = [(key, metric) for key in keys for metric in metrics]
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    figure.set_size_inches((3.5, 6.0, WIDTH)[across - 1], 2.3 * down + 0.9)
    letters = (figure.get_figwidth() / across - 0.7) * 72 / (0.62 * SIZE)
    axes = figure.subplots(down, across, squeeze=False)
    for ax, (key, metric) in zip(axes.flat, panels):
        chosen = [row for row in table.parameters if table.parameters[row][0] == key]
        _curves(ax, table, chosen, [column for column in table.columns if column.metric == metric], letters)
        ax.set_xlabel(wrapped(key, 40), fontsize=SIZE)
        ax.set_ylabel(wrapped(metric, 30), fontsize=SIZE)
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    lines = {line.get_label(): line for ax in axes.flat for line in ax.containers}
    figure.legend(
        lines.values(), lines, loc="outside lower center", ncols=min(2, len(lines)), fontsize=SIZE - 1, frameon=False
    )
    shown = [table.cells[row, c] for row in (*rows, *filter(None, [table.baseline])) for c in table.columns]
    said = ["bars and bands: 95% t-interval over seeds"] if any(interval(c) is not None for c in shown) else []
    said += [f"dashed, hollow: {table.baseline}"] if table.baseline else []
    finish(figure, table, "; ".join(said))
    return figure


def _curves(ax: Axes, table: Table, rows: Sequence[str], columns: Sequence[Column], letters: float) -> None:
    values = [table.parameters[row][1] for row in rows]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    places = {v: float(v) if numbers else float(i) for i, v in enumerate(dict.fromkeys(values))}
    families: dict[str, list[str]] = {}
    for row in rows:
        families.setdefault(series(row, table.parameters[row][0]), []).append(row)
    lines = [(column, family) for column in columns for family in families]
    for i, (column, family) in enumerate(lines):
        cells = [(places[table.parameters[row][1]], table.cells[row, column]) for row in families[family]]
        found = sorted((x, c.mean, interval(c) or 0.0) for x, c in cells if c.values and c.mean is not None)
        grey, marker = GREYS[i % len(GREYS)], MARKERS[i % len(MARKERS)]
        named = ([column.data] if len({c.data for c in table.columns}) > 1 else []) + [column.domain]
        label = wrapped(" ".join([*named, *([family] if len(families) > 1 else [])]), 40)
        if not found:
            continue
        x, y, half = zip(*found)
        ax.errorbar(
            x, y, half, label=label, color=grey, marker=marker, markersize=4, linestyle=STYLES[i % len(STYLES)],
            linewidth=1.2, capsize=2,
        )  # fmt: skip
        if table.baseline is not None and family == next(iter(families)):
            _level(ax, table.cells[table.baseline, column], grey, marker)
    _scale(ax, places, numbers, letters)
    ax.spines[["top", "right"]].set_visible(False)


def _level(ax: Axes, cell: Cell, grey: str, marker: str) -> None:
    """A row without a parameter: a dashed line over the whole panel."""
    if not cell.values or cell.mean is None:
        return
    half = interval(cell)
    if half is not None:
        ax.axhspan(cell.mean - half, cell.mean + half, color=grey, alpha=0.12, linewidth=0)
    ax.plot(
        [0, 1], [cell.mean, cell.mean], transform=ax.get_yaxis_transform(), color=grey, linestyle=(0, (4, 3)),
        linewidth=0.9, marker=marker, markersize=4, markerfacecolor="white", markevery=[1],
        clip_on=False,
    )  # fmt: skip


def _scale(ax: Axes, places: dict[float | str, float], numbers: bool, letters: float) -> None:
    """Scale, limits and ticks of an axis as wide as ``letters``; numbers that have no room go without a label."""
    import numpy as np
    from matplotlib.ticker import NullLocator

    x = sorted(places.values())
    positive = [v for v in x if v > 0]
    if numbers and x[0] >= 0 and positive and positive[-1] > 20 * positive[0]:
        if x[0] > 0:
            ax.set_xscale("log")
        else:
            ax.set_xscale("symlog", linthresh=positive[0], linscale=0.5)
    scale = ax.xaxis.get_transform()
    at = scale.transform(np.array(x))
    pad = 0.08 * (at[-1] - at[0]) or 0.5
    ax.set_xlim(*scale.inverted().transform(np.array([at[0] - pad, at[-1] + pad])))
    if numbers:
        labels, free = [], -np.inf
        for value, place in zip(x, (at - at[0] + pad) / (at[-1] - at[0] + 2 * pad) * letters):
            half = len(f"{value:g}") / 2 + 0.5
            fits = place - half >= free
            labels.append(f"{value:g}" if fits else "")
            free = place + half if fits else free
        ax.set_xticks(x, labels)
    else:
        names = [wrapped(str(value), 14) for value in places]
        longest = max(len(line) for name in names for line in name.split("\n"))
        ax.set_xticks(list(places.values()), names)
        if (longest + 1) * len(names) > letters:
            ax.set_xticklabels([wrapped(str(value), 1000) for value in places])
            for label in ax.get_xticklabels():
                label.set(rotation=35, ha="right", rotation_mode="anchor")
    ax.xaxis.set_minor_locator(NullLocator())
