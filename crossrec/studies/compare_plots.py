"""Learning curves of several runs in one picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossrec.config import target_name
from crossrec.runs.store import RunFolder
from crossrec.studies.canvas import new_figure, save

if TYPE_CHECKING:
    import polars as pl

STYLES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""Seven markers and four line styles tell 28 runs apart without colour."""


def learning_curves(run: RunFolder) -> pl.DataFrame | None:
    """Curves of a run by epoch.

    Returns:
        ``epoch, valid, loss``: of every epoch that was trained, the validation metric that selects (null where the
        epoch was not validated) and the mean training loss. None for a run without training or without a CSV log.
    """
    import polars as pl

    path = run.path / "log" / "metrics.csv"
    if not path.is_file():
        return None
    log = pl.read_csv(path, infer_schema_length=None)
    if not {"epoch", "train/loss", "valid/monitor"} <= set(log.columns):
        return None
    made = (
        log.select("epoch", pl.col("valid/monitor", "train/loss").cast(pl.Float64))
        .group_by("epoch", maintain_order=True)
        .agg(valid=pl.col("valid/monitor").drop_nulls().last(), loss=pl.col("train/loss").drop_nulls().last())
        .filter(pl.col("loss").is_not_null())  # the last evaluation, after training, has an epoch of its own
        .sort("epoch")
    )
    return made if made.height else None


def without_curve(run: RunFolder) -> str:
    """Why a run has no learning curve; empty where it has one."""
    if learning_curves(run) is not None:
        return ""
    if run.config.get("compression") is not None:
        return "it is another run's, compressed"
    if run.metrics.get("best_epoch") is None:
        return f"{target_name(run.config['strategy'])} does not train"
    return "its folder has no log/metrics.csv of its epochs, which every logger but logger=none writes"


def plot_learning_curves(runs: Mapping[str, RunFolder], names: Mapping[str, str], folder: Path) -> list[Path]:
    """Draw validation metric and training loss of all runs by epoch, the selected epoch marked.

    Runs are told apart by line style and marker, so the picture reads in black and white too.

    Args:
        runs: label -> finished run.
        names: label -> what the legend says after the label.
        folder: where ``learning_curves.png`` and ``.pdf`` are written.

    Returns:
        The files; none when no run has curves.

    Raises:
        CrossrecError: matplotlib is not installed.
    """
    figure = new_figure()
    from matplotlib import colormaps

    curves = {label: made for label, run in runs.items() if (made := learning_curves(run)) is not None}
    if not curves:
        return []
    figure.set_size_inches(10, 4 + 0.25 * len(curves))
    left, right = figure.subplots(1, 2)
    shades = colormaps["cividis"]
    for at, label in enumerate(runs):
        if label not in curves:
            continue
        record, curve = runs[label].metrics, curves[label]
        style: dict[str, Any] = {
            "color": shades(0.8 * at / max(1, len(runs) - 1)),
            "linestyle": STYLES[at % len(STYLES)],
            "marker": MARKERS[at % len(MARKERS)],
            "markersize": 4,
            "linewidth": 1.3,
            "markevery": max(1, curve.height // 12),
        }
        for axes, column in ((left, "valid"), (right, "loss")):
            shown = curve.drop_nulls(column)
            name = f"{label}  {names[label]}" if axes is left else None
            axes.plot(shown["epoch"].to_numpy(), shown[column].to_numpy(), label=name, **style)
            chosen = shown.filter(shown["epoch"] == record["best_epoch"])
            axes.plot(
                chosen["epoch"].to_numpy(), chosen[column].to_numpy(), linestyle="", marker="o", markersize=11,
                markerfacecolor="none", markeredgecolor="black", markeredgewidth=1.4, zorder=3,
            )  # fmt: skip
    left.plot([], [], linestyle="", marker="o", markersize=11, mfc="none", mec="black", label="selected epoch")
    monitors = dict.fromkeys(str(runs[label].metrics["monitor"]) for label in curves)
    losses = {str(runs[label].config["objective"].get("_target_")) for label in curves}
    left.set(title="validation", xlabel="epoch", ylabel=" / ".join(monitors))
    right.set(title="training", xlabel="epoch", ylabel="loss" if len(losses) == 1 else "loss (of different objectives)")
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(True, color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(
        loc="outside lower center", ncols=1 if len(curves) < 5 else 2, frameon=False, fontsize=9, handlelength=3.5
    )
    files = [folder / f"learning_curves.{kind}" for kind in ("png", "pdf")]
    for path in files:
        save(figure, path)
    return files
