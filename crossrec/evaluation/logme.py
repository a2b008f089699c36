"""How well features explain labels before anything is trained: the evidence of a Bayesian linear model."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from crossrec.errors import CrossrecError

GRID = 73
"""Ratios alpha / beta that are tried first, evenly spaced over :data:`SPAN` powers of e."""

SPAN = 36.0

ROUNDS = 40
"""Golden sections of the best ratio's neighbourhood: each leaves .618 of it."""

NO_RELATION = -0.5 * math.log(2.0 * math.pi * math.e)
"""LogME of features that say nothing of the labels, -1.419: the density of a standard normal variable, on average."""


def logme(features: Tensor, labels: Tensor) -> float:
    """LogME: log evidence for each row and label, of centred features and standardised labels.

    It is the mean over labels k of :func:`log_evidence` / n. Features are centred, and labels shifted and scaled to
    mean 0 and mean square 1, so that neither an offset nor a unit matters and :data:`NO_RELATION` is the value of
    features that explain nothing. Width alone is not rewarded: directions that do not help lower the evidence.

    Source: You et al., "LogME: practical assessment of pre-trained models for transfer learning", ICML 2021, with the
    labels of a regression. Deviations: centring, which takes the place of a bias; the maximum is searched for as
    :func:`log_evidence` says.

    Args:
        features: (n, w).
        labels: (n, k).

    Raises:
        CrossrecError: fewer than two rows, or no label varies.
    """
    x, y = features.double(), labels.double()
    if len(x) < 2 or len(x) != len(y):
        raise CrossrecError(
            f"LogME was given {len(x)} rows of features and {len(y)} of labels: give two or more of each"
        )
    y = y - y.mean(0)
    scale = y.square().mean(0).sqrt()
    varied = scale > 1e-9
    if not bool(varied.any()):
        raise CrossrecError("LogME was given labels that are all the same")
    return float(log_evidence(x - x.mean(0), (y / scale)[:, varied]).mean() / len(x))


def log_evidence(features: Tensor, labels: Tensor) -> Tensor:
    """Log evidence (k,) of y = F w + noise for each column y of the labels, at the best alpha and beta.

    w ~ N(0, I / alpha), noise ~ N(0, I / beta), so y ~ N(0, I / beta + F F' / alpha). With t = alpha / beta, s the
    eigenvalues of F'F = V diag(s) V' and p = V'F'y, the best beta for a given t is n / Q(t), which leaves

        log p(y | t) = -n/2 (log(2 pi Q(t) / n) + 1) - 1/2 sum log(1 + s / t),   Q(t) = y'y - sum p^2 / (s + t),

    whose maximum over t is found on a grid and by golden sections. It is the one that the fixed-point iterations of
    MacKay (1992), which LogME runs, lead to where the evidence has one maximum.

    Args:
        features: (n, w) float64.
        labels: (n, k) float64, none of them all zero.
    """
    values, directions = torch.linalg.eigh(features.T @ features)
    values = values.clamp_min(0.0)
    squares = (directions.T @ (features.T @ labels)).square()
    total, n = labels.square().sum(0), len(labels)
    centre = math.log(max(float(values.mean()), 1e-300))

    def evidence(log_ratio: Tensor) -> Tensor:
        ratio = log_ratio.exp()
        left = total - (squares / (values.unsqueeze(1) + ratio)).sum(0)
        left = torch.maximum(left, 1e-12 * total)  # features that interpolate: rounding may leave nothing
        spread = torch.log1p(values.unsqueeze(1) / ratio).sum(0)
        return -0.5 * n * (torch.log(2.0 * math.pi * left / n) + 1.0) - 0.5 * spread

    grid = torch.linspace(centre - SPAN / 2, centre + SPAN / 2, GRID, dtype=torch.float64)
    tried = torch.stack([evidence(point.expand(len(total))) for point in grid])
    step, best = SPAN / (GRID - 1), grid[tried.argmax(0)]
    low, high, golden = best - step, best + step, (math.sqrt(5.0) - 1.0) / 2.0
    for _ in range(ROUNDS):
        a, b = high - golden * (high - low), low + golden * (high - low)
        left_is_better = evidence(a) >= evidence(b)
        low, high = torch.where(left_is_better, low, a), torch.where(left_is_better, b, high)
    return torch.maximum(evidence((low + high) / 2.0), tried.amax(0))
