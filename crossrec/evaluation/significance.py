"""Is a mean of paired differences zero: permutation and Wilcoxon tests, bootstrap intervals, Holm's correction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from crossrec.errors import CrossrecError

EXACT = 12
"""Up to this many differences that are not zero, all sign patterns are enumerated."""

CELLS = 2**22
"""Most numbers held at once; a chunk of resamples holds at least one resample."""

FEW = 10
"""Fewer random patterns than this as extreme as the one observed say too little: the tail is sampled apart."""

TILTED = 1999
"""Patterns that sample the tail."""

_ALIKE = 1e-9  # statistics this close, in units of the largest difference, count as equal

_Floats = npt.NDArray[np.float64]


def permutation_test(differences: npt.ArrayLike, *, n_resamples: int = 9999, seed: int = 0) -> float:
    """Two-sided p of the paired sign-flip test on the mean (Fisher's randomization test).

    Under the null hypothesis the two values of a pair could as well be swapped, so every difference keeps its size and
    has either sign. With m = ``n_resamples`` random sign patterns, b of them at least as extreme as the one observed,
    p = (b + 1) / (m + 1) (Phipson and Smyth, "Permutation p-values should never be zero", Statistical Applications in
    Genetics and Molecular Biology 9, 2010). Up to :data:`EXACT` differences other than zero, all patterns are
    enumerated. Zeros have no sign and change nothing.

    This p cannot be below 1 / (m + 1). Where b is below :data:`FEW`, it is therefore estimated by importance sampling
    (Siegmund, "Importance sampling in the Monte Carlo study of sequential tests", 1976): :data:`TILTED` patterns with
    the sign of difference d positive with chance 1 / (1 + exp(-2 t d)), t such that the expected sum is the one
    observed, each weighted by how much rarer it is among fair signs. The observed pattern counts as one of them
    (Harrison, "Conservative hypothesis tests and confidence intervals using importance sampling", 2012), so p is
    never 0, and its relative error is some percent.

    Args:
        differences: (n,) one for each pair.
        n_resamples: random patterns with fair signs. The least p is 2 / 2**n, so .25 with three pairs and .0625 with
            five.
        seed: of the patterns.

    Raises:
        CrossrecError: there is no difference, one is not finite, or ``n_resamples`` is below 1.

    >>> permutation_test([1.0, 2.0, 3.0])
    0.25
    """
    values = _checked(differences)
    _at_least_one("n_resamples", n_resamples)
    sizes, least = _sizes(values)
    if not len(sizes):
        return 1.0
    if len(sizes) <= EXACT:
        bits = np.arange(2 ** len(sizes))[:, None] >> np.arange(len(sizes)) & 1
        return float(np.mean(_extreme((2.0 * bits - 1.0) @ sizes, least)))
    rng = np.random.default_rng(seed)
    extreme = sum(int(_extreme(sums, least).sum()) for sums in _random_sums(sizes, n_resamples, rng))
    return _tail(sizes, least, rng) if extreme < FEW else (extreme + 1) / (n_resamples + 1)


def wilcoxon_test(differences: npt.ArrayLike) -> float:
    """Two-sided p of Wilcoxon's signed-rank test, by :func:`scipy.stats.wilcoxon`.

    Zero differences are left out, as Wilcoxon (1945) does and scipy by default; with nothing but zeros p is 1. Sizes
    that differ by less than rounding (1e-12 of the largest) share their rank. scipy enumerates small samples and takes
    the normal approximation for others.

    Args:
        differences: (n,) one for each pair.

    Raises:
        CrossrecError: there is no difference, or one is not finite.

    >>> wilcoxon_test([1.0, 2.0, 3.0])
    0.25
    """
    from scipy.stats import wilcoxon

    values = _scaled(_checked(differences))
    values = values[values != 0]
    return float(wilcoxon(values).pvalue) if len(values) else 1.0


def bootstrap_interval(
    differences: npt.ArrayLike, *, level: float = 0.95, n_resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean (Efron, 1981), in the unit of the differences.

    Args:
        differences: (n,) one for each pair. A single one is both ends of its interval.
        level: share of the resamples' means inside the interval.
        n_resamples: samples of n, drawn with replacement.
        seed: of the samples.

    Raises:
        CrossrecError: there is no difference, one is not finite, ``level`` is not between 0 and 1, or ``n_resamples``
            is below 1.

    >>> bootstrap_interval([2.0, 2.0])
    (2.0, 2.0)
    """
    values = _checked(differences)
    _at_least_one("n_resamples", n_resamples)
    if not 0 < level < 1:
        raise CrossrecError(f"level is {level}: give a share between 0 and 1, such as .95")
    rng = np.random.default_rng(seed)
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) == 1:
        return float(distinct[0]), float(distinct[0])
    n = len(values)
    if 8 * len(distinct) <= n:  # counts of a few distinct values, instead of n draws
        means = [rng.multinomial(n, counts / n, size=rows) @ distinct / n for rows in _chunks(n_resamples, len(counts))]
    else:
        means = [values[rng.integers(0, n, size=(rows, n))].mean(axis=1) for rows in _chunks(n_resamples, n)]
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def holm(pvalues: Sequence[float]) -> list[float]:
    """Adjust p-values for being several (Holm, "A simple sequentially rejective multiple test procedure", 1979).

    The i-th smallest of m becomes the largest of (m - j + 1) p_j over j <= i, at most 1. The chance that any true null
    hypothesis is below the level is then at most the level, however the tests depend on each other.

    Args:
        pvalues: in any order.

    Returns:
        Adjusted values in the given order.

    Raises:
        CrossrecError: a value is no probability.

    >>> holm([0.04, 0.01, 0.03])
    [0.06, 0.03, 0.06]
    """
    p = np.asarray(pvalues, dtype=np.float64).reshape(-1)
    wrong = ~((p >= 0) & (p <= 1))
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise CrossrecError(f"p-value {at + 1} of {len(p)} is {p[at]}: expected a number from 0 to 1")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return [float(value) for value in adjusted]


def _checked(differences: npt.ArrayLike) -> _Floats:
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1:
        raise CrossrecError(f"differences have shape {values.shape}: expected one dimension, a value for each pair")
    if not len(values):
        raise CrossrecError("there are no differences to test: expected one for each pair")
    if not np.isfinite(values).all():
        at = int(np.flatnonzero(~np.isfinite(values))[0])
        raise CrossrecError(f"difference {at + 1} of {len(values)} is {values[at]}: expected finite numbers")
    return values


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise CrossrecError(f"{name} is {value}: give at least 1")


def _scaled(values: _Floats) -> _Floats:
    """In units of the largest size and without noise of rounding, so that equal differences are equal numbers."""
    largest = np.abs(values).max()
    return np.round(values / largest, 12) if largest > 0 else values


def _sizes(values: _Floats) -> tuple[_Floats, float]:
    """Sizes of the scaled differences other than zero, and the least |sum| that counts as extreme."""
    scaled = _scaled(values)
    return np.abs(scaled[scaled != 0]), float(abs(scaled.sum())) - _ALIKE


def _extreme(sums: _Floats, least: float) -> npt.NDArray[np.bool_]:
    return np.abs(sums) >= least


def _random_sums(sizes: _Floats, n_resamples: int, rng: np.random.Generator) -> Iterator[_Floats]:
    """Sums of ``sizes`` (n,) under random signs, a chunk at a time."""
    distinct, counts = np.unique(sizes, return_counts=True)
    n = len(sizes)
    if 32 * len(distinct) <= n:  # how many of each size are positive is binomial
        for rows in _chunks(n_resamples, len(distinct)):
            yield (2.0 * rng.binomial(counts, 0.5, size=(rows, len(distinct))) - counts) @ distinct
    else:
        for rows in _chunks(n_resamples, n):
            packed = np.frombuffer(rng.bytes(-(-rows * n // 8)), dtype=np.uint8)
            bits = np.unpackbits(packed, count=rows * n).reshape(rows, n)
            yield 2.0 * (bits.astype(np.float64) @ sizes) - sizes.sum()


def _tail(sizes: _Floats, least: float, rng: np.random.Generator) -> float:
    """P(|sum| >= least) of ``sizes`` under random signs, by signs that make such sums common."""
    distinct, counts = np.unique(sizes, return_counts=True)
    observed = least + _ALIKE
    low, high = 0.0, 1e4  # beyond, products with t lose digits
    for _ in range(100):
        t = (low + high) / 2
        low, high = (t, high) if counts @ (distinct * np.tanh(t * distinct)) < observed else (low, t)
    positive = 1 / (1 + np.exp(-2 * t * distinct))
    generated = float(counts @ (t * distinct + np.log1p(np.exp(-2 * t * distinct)) - np.log(2)))  # log E exp(t sum)
    logs = [np.array([generated - t * observed])]
    for sums in _tilted_sums(distinct, counts, positive, rng):
        logs.append(generated - t * sums[sums >= least])
    log_p = float(np.logaddexp.reduce(np.concatenate(logs))) + float(np.log(2 / (TILTED + 1)))
    return float(min(1.0, max(np.exp(log_p), np.finfo(np.float64).tiny)))


def _tilted_sums(
    distinct: _Floats, counts: npt.NDArray[np.int64], positive: _Floats, rng: np.random.Generator
) -> Iterator[_Floats]:
    """Sums of the sizes under signs that are positive with chance ``positive`` (a size each), a chunk at a time."""
    n = int(counts.sum())
    if 8 * len(distinct) <= n:
        for rows in _chunks(TILTED, len(distinct)):
            yield (2.0 * rng.binomial(counts, positive, size=(rows, len(distinct))) - counts) @ distinct
    else:
        sizes, chances = np.repeat(distinct, counts), np.repeat(positive, counts)
        for rows in _chunks(TILTED, n):
            yield 2.0 * ((rng.random((rows, n)) < chances).astype(np.float64) @ sizes) - sizes.sum()


def _chunks(n_resamples: int, width: int) -> Iterator[int]:
    """Row counts of chunks of ``width`` columns that hold :data:`CELLS` numbers at most and sum to ``n_resamples``."""
    most = max(1, CELLS // max(1, width))
    for start in range(0, n_resamples, most):
        yield min(most, n_resamples - start)
