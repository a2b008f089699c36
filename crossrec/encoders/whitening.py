"""Centring and whitening of features."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from crossrec.errors import CrossrecError

Kind = Literal["none", "centre", "zca", "pca"]


class Whitening(nn.Module):
    """An affine map y = (x - mu) M fitted on features: their directions of large shared variance taken away.

    With C = U diag(l) U' the covariance of the fitted features (divided by n): ``centre`` is M = I, ``zca``
    M = U diag(l + eps)^-1/2 U' and ``pca`` M = U_k diag(l_k + eps)^-1/2 with the k = ``dim`` leading directions;
    ``none`` changes nothing. eps is ``epsilon`` times the mean of l. Directions without any variance among the fitted
    features (l below 1e-9 of the largest) are dropped: M is zero on them, so an unseen item's noise there is not blown
    up.

    Source: Kessy et al., "Optimal whitening and decorrelation", The American Statistician 2018, table 1 (ZCA, PCA); for
    sentence vectors Su et al., "Whitening sentence representations", arXiv 2103.15316, algorithm 1.

    Args:
        width: w, width of the features.
        kind: see above.
        dim: width of the output of ``pca``; None is all of w. No other kind has it.
        epsilon: relative to the mean eigenvalue.

    Raises:
        CrossrecError: an unknown kind, or a ``dim`` that the kind has no use for or that w does not have.

    Shape:
        (n, w) -> (n, ``out_width``).
    """

    mean: Tensor
    matrix: Tensor

    def __init__(self, width: int, kind: Kind = "none", dim: int | None = None, epsilon: float = 1e-5) -> None:
        super().__init__()
        if kind not in ("none", "centre", "zca", "pca"):
            raise CrossrecError(f"whitening={kind!r} must be none, centre, zca or pca")
        if dim is not None and kind != "pca":
            raise CrossrecError(f"whitening_dim={dim} goes with whitening=pca, not {kind}: leave it out")
        if dim is not None and not 1 <= dim <= width:
            raise CrossrecError(f"whitening_dim={dim} must be from 1 to the features' width, {width}")
        self.kind = kind
        self.epsilon = epsilon
        self.out_width = width if dim is None else dim
        self.register_buffer("mean", torch.zeros(width if kind != "none" else 0))
        self.register_buffer(
            "matrix", torch.eye(width)[:, : self.out_width] if kind in ("zca", "pca") else torch.zeros(0)
        )

    @torch.no_grad()
    def fit(self, features: Tensor, domains: Tensor | None = None) -> Whitening:
        """Fit on ``features`` (n, w), in float64, and return self; ``domains`` (n,) make no difference here.

        Raises:
            CrossrecError: fewer than two rows, or one is not finite.
        """
        if self.kind == "none":
            return self
        if len(features) < 2:
            raise CrossrecError(
                f"whitening={self.kind} needs two training items with features, there are {len(features)}"
            )
        if not bool(torch.isfinite(features).all()):
            raise CrossrecError("whitening was given features that are not finite numbers: encode the items anew")
        exact = features.to(torch.float64)
        mean = exact.mean(0)
        self.mean.copy_(mean)
        if self.kind != "centre":
            self.matrix.copy_(self._matrix(exact - mean))
        return self

    def _matrix(self, centred: Tensor) -> Tensor:
        values, directions = principal(centred)
        scale = (values + self.epsilon * values.mean()).rsqrt().where(values > 1e-9 * values[0], 0.0)
        scaled = directions * scale
        return scaled[:, : self.out_width] if self.kind == "pca" else scaled @ directions.T

    def forward(self, features: Tensor, domains: Tensor | None = None) -> Tensor:
        """Map ``features`` (n, w) to (n, ``out_width``); ``domains`` (n,) make no difference here."""
        if self.kind == "none":
            return features
        centred: Tensor = features - self.mean
        whitened: Tensor = centred if self.kind == "centre" else centred @ self.matrix
        return whitened


def principal(centred: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (w,) and eigenvectors (w, w), in columns, of the covariance of ``centred`` (n, w), largest first.

    An eigenvector's sign is arbitrary: its largest entry is made positive, so that a refit is the same.
    """
    values: Tensor
    directions: Tensor
    values, directions = torch.linalg.eigh(centred.T @ centred / len(centred))
    values, directions = values.flip(0).clamp_min(0), directions.flip(1)
    largest = directions.gather(0, directions.abs().argmax(0, keepdim=True))
    return values, directions * torch.where(largest < 0, -1.0, 1.0)
