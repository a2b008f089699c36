"""Picture of a run's users and items, before and after training, in two dimensions."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from crossrec.errors import CrossrecError
from crossrec.runs.gap import RunGap
from crossrec.studies.canvas import SIZE, WIDTH, new_figure, save, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Picture = Literal["pca", "umap"]
Projection = Callable[[Tensor], Tensor]
"""(n, f) -> (n, 2)."""

MARKERS = ("o", "^", "s", "x", "D", "+", "v", "*")


def check(picture: Picture) -> None:
    """Tell at once that a picture cannot be drawn.

    Raises:
        CrossrecError: matplotlib or umap is missing.
    """
    new_figure()
    if picture == "umap":
        try:
            import_module("umap")
        except ImportError:
            raise CrossrecError(
                "--picture umap needs umap-learn: pip install 'crossrec[umap]', or use --picture pca"
            ) from None


def draw(made: RunGap, picture: Picture = "pca") -> Path:
    """Write ``gap.png`` into the run's folder.

    Raises:
        CrossrecError: matplotlib or umap is missing.
    """
    path = made.run.path / "gap.png"
    save(gap_figure(made, picture), path)
    return path


def gap_figure(made: RunGap, picture: Picture = "pca") -> Figure:
    """A row of panels for users and for items, a column before and one after; domains by marker and shade.

    Each row has one projection, fitted on the vectors after training, so both its panels show the same directions. An
    id that is in several domains is drawn in each. Scales are each panel's own.
    """
    figure = new_figure()
    from matplotlib import colormaps

    figure.set_size_inches(WIDTH, 6.4)
    axes = figure.subplots(2, 2, squeeze=False)
    for line, (space, domains) in zip(axes, made.vectors.items()):
        project, names = _projection(torch.cat([rows.after for rows in domains.values()]).double(), picture)
        for ax, stage in zip(line, ("before", "after")):
            for at, (domain, rows) in enumerate(domains.items()):
                points = project((rows.before if stage == "before" else rows.after).double()).numpy()
                shade = colormaps["cividis"](0.7 * at / max(1, len(domains) - 1))
                marker = MARKERS[at % len(MARKERS)]
                ax.scatter(
                    points[:, 0], points[:, 1], s=9, marker=marker, alpha=0.7, linewidths=0.7, color=shade,
                    facecolors=None if marker in "x+" else "none" if at % 2 else shade,
                    label=wrapped(domain, 30) if ax is axes[0, 0] else None,
                )  # fmt: skip
            ax.set_title(f"{space} {stage} training", fontsize=SIZE)
            ax.set_xlabel(names[0], fontsize=SIZE)
            ax.set_ylabel(names[1], fontsize=SIZE)
            ax.tick_params(labelsize=SIZE - 1)
            ax.spines[["top", "right"]].set_visible(False)
    figure.suptitle(wrapped(made.run.id, 100), fontsize=SIZE + 1)
    figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=SIZE, markerscale=2)
    return figure


def principal_axes(x: Tensor) -> tuple[Tensor, Tensor]:
    """First two principal axes (f, 2) of rows x (n, f), and their shares of the variance (2,).

    An axis points to where its largest entry is positive; where vectors have one coordinate, the second axis is 0.
    """
    x = x - x.mean(0)
    _, sizes, axes = torch.linalg.svd(x, full_matrices=False)
    if len(axes) < 2:
        axes, sizes = torch.cat([axes, torch.zeros_like(axes)]), torch.cat([sizes, torch.zeros_like(sizes)])
    axes = axes[:2]
    signs = axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    total = sizes.square().sum()
    return (axes * signs).T, sizes[:2].square() / torch.where(total > 0, total, 1.0)


def _projection(after: Tensor, picture: Picture) -> tuple[Projection, tuple[str, str]]:
    if picture == "umap":
        fitted = import_module("umap").UMAP(random_state=0, n_jobs=1).fit(after.numpy())
        return lambda x: torch.as_tensor(fitted.transform(x.numpy())), ("UMAP 1", "UMAP 2")
    axes, shares = principal_axes(after)
    centre = after.mean(0)
    names = [f"axis {at + 1} ({share:.0%} of the variance after)" for at, share in enumerate(shares.tolist())]
    return lambda x: (x - centre) @ axes, (names[0], names[1])
