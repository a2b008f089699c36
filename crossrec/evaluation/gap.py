"""How far apart two domains' vectors are: MMD with interval and p, CORAL, proxy A-distance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus

from crossrec.adaptation.coral import Coral
from crossrec.adaptation.numerics import median_square, squared_distances
from crossrec.data.randomness import torch_generator
from crossrec.errors import CrossrecError

RESAMPLES = 999
"""Permutations of the p value, and as many bootstrap samples of the interval."""

LEAST = 10
"""Distinct ids that each domain needs."""

_ALIKE = 1e-12  # MMD^2 of a kernel of at most 1: nearer values count as equal


@dataclass(frozen=True)
class Gap:
    """Distances of two domains; none has a unit, and 0 is no gap.

    Args:
        mmd: MMD^2, unbiased: about 0, and often below, where there is no gap.
        low: lower end of its 95% bootstrap interval.
        high: upper end.
        p: permutation p of no gap.
        coral: CORAL of standardised vectors; sampling alone gives about 1 / (2 rows).
        pad: proxy A-distance, from 0 (the domains cannot be told apart) to 2.
    """

    mmd: float
    low: float
    high: float
    p: float
    coral: float
    pad: float


@dataclass(frozen=True)
class Sample:
    """Rows of two domains as one sample, standardised.

    Both domains' rows are shifted by their common mean and divided by one number, the pooled deviation sqrt(mean of all
    squared entries): a rotation of the space changes nothing, and runs whose vectors differ in length compare.

    Args:
        vectors: (n, f) float64.
        second: (n,) float64: 1 where a row is of the second domain.
        group: (n,) from 0 on: rows of one id, such as a user's in both domains, have the same.
        kind: (groups,) 0: ids of the first domain alone, 1: of both, 2: of the second alone.
    """

    vectors: Tensor
    second: Tensor
    group: Tensor
    kind: Tensor

    @classmethod
    def of(cls, a: Tensor, b: Tensor, ids_a: Tensor, ids_b: Tensor) -> Sample:
        """Pool a (n, f) and b (m, f), whose rows have the ids (n,) and (m,).

        Raises:
            CrossrecError: a side has fewer than :data:`LEAST` ids, or a vector is not finite.
        """
        for ids in (ids_a, ids_b):
            if len(torch.unique(ids)) < LEAST:
                raise CrossrecError(f"a domain shows {len(torch.unique(ids))} different ids; a gap needs {LEAST}")
        pooled = torch.cat([a, b]).double()
        if not bool(pooled.isfinite().all()):
            raise CrossrecError("vectors are not finite, so that no distance is")
        pooled = pooled - pooled.mean(0)
        scale = pooled.square().mean().sqrt()
        _, group = torch.unique(torch.cat([ids_a, ids_b]), return_inverse=True)
        second = torch.cat([torch.zeros(len(a)), torch.ones(len(b))]).double()
        shown = torch.zeros(2, int(group.max()) + 1).index_put((second.long(), group), torch.ones(()))
        kind = torch.where(shown.sum(0) == 2, 1, 2 * shown[1].long())
        return cls(pooled / torch.where(scale > 0, scale, 1.0), second, group, kind)


def domain_gap(a: Tensor, b: Tensor, ids_a: Tensor, ids_b: Tensor, *, resamples: int = RESAMPLES, seed: int = 0) -> Gap:
    """Measure all distances; see :func:`mmd_test` and :func:`proxy_a_distance`, and :class:`Coral` for its formula.

    Args:
        a: (n, f) vectors of one domain.
        b: (m, f) of the other.
        ids_a: (n,) whose they are; an id that is in both domains is the same user or thing.
        ids_b: (m,).
        resamples: permutations, and bootstrap samples.
        seed: of these and of the classifier's halves.

    Raises:
        CrossrecError: a side has fewer than :data:`LEAST` ids, or a vector is not finite.
    """
    sample = Sample.of(a, b, ids_a, ids_b)
    mmd, low, high, p = mmd_test(sample, resamples=resamples, seed=seed)
    coral = Coral().distance(sample.vectors[sample.second == 0], sample.vectors[sample.second == 1])
    return Gap(mmd, low, high, p, float(coral), proxy_a_distance(sample, seed=seed))


def mmd_test(sample: Sample, *, resamples: int = RESAMPLES, seed: int = 0) -> tuple[float, float, float, float]:
    """MMD^2, its 95% interval and its p.

    MMD^2 = mean k(x_i, x_j) + mean k(y_i, y_j) - 2 mean k(x_i, y_j), each over the pairs of rows with different ids,
    k(u, v) = exp(-|u - v|^2 / (2 sigma^2)), sigma the median distance of the pooled rows. Where no id is in both
    domains this is :class:`~crossrec.adaptation.mmd.MMD` with ``estimator=unbiased, bandwidths=[1]``, MMD_u^2 of
    Gretton et al., "A kernel two-sample test", JMLR 13 (2012); where all are it is their U-statistic of pairs, the mean
    over i != j of k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(x_j, y_i), unbiased too though a user's two rows depend
    on each other.

    The kernel, with its sigma, is computed once; a resample only weighs its rows.
    Interval: 2.5% and 97.5% points over bootstrap samples of ids, drawn with replacement among the ids of the first
    domain alone, of both, of the second alone; all rows of an id go together, and pairs of a row with its copy do not
    count. It says how large a gap is; near 0 it is too wide, and whether there is any gap is for p to say.
    p: (1 + permutations with an MMD^2 at least as large) / (1 + permutations). A permutation deals the domains' labels
    anew among the ids that are in one domain, and swaps or keeps them within an id that is in both.

    Args:
        sample: rows of the two domains.
        resamples: permutations, and bootstrap samples.
        seed: of both.

    Returns:
        MMD^2, lower end, upper end, p.
    """
    squares = squared_distances(sample.vectors)
    kernel = torch.exp(squares / (-2.0 * median_square(squares)))
    kernel[sample.group.unsqueeze(1) == sample.group] = 0.0
    second = sample.second.unsqueeze(0)
    value = _mmd(kernel, sample.group, 1 - second, second)
    weights = _bootstrap(sample, resamples, torch_generator(seed, "gap bootstrap"))
    drawn = _mmd(kernel, sample.group, weights * (1 - second), weights * second)
    low, high = torch.quantile(drawn, torch.tensor([0.025, 0.975], dtype=drawn.dtype)).tolist()
    labels = _permuted(sample, resamples, torch_generator(seed, "gap permutation"))
    extreme = int((_mmd(kernel, sample.group, 1 - labels, labels) >= value - _ALIKE).sum())
    return value.item(), low, high, (1 + extreme) / (1 + resamples)


def proxy_a_distance(sample: Sample, *, seed: int = 0) -> float:
    """Proxy A-distance 2 (1 - 2 err), from 0 to 2, of a linear classifier that tells the domains apart.

    err is the mean of the two domains' error rates on held-out rows. Half of the ids are held out, so that all rows of
    an id lie on one side; the halves have as many ids of each kind (first domain alone, both, second alone). An err
    above 1/2 counts as 1/2, which makes the distance 0; its sampling error is about 2 / sqrt(held-out rows) near 0. The
    classifier is logistic regression with a bias,

        sum over domains of 1/2 mean log(1 + exp(-s (<w, x> + b))) + |w|^2 / (2 n),  s = -1 or 1 by domain,

    n the rows it learns from, minimised by L-BFGS in float64 from zero.

    Source: Ben-David et al., "Analysis of representations for domain adaptation", NIPS 2006; in this form, on held-out
    halves, Ganin et al., "Domain-adversarial training of neural networks", JMLR 17 (2016). Deviations: logistic
    regression in place of a linear support vector machine; classes weigh the same; never below 0.

    Args:
        sample: rows of the two domains.
        seed: of the halves.
    """
    held = held_out(sample, seed)
    learnt = logistic_regression(sample.vectors[~held], sample.second[~held])
    told = (sample.vectors[held] @ learnt[:-1] + learnt[-1] > 0).double()
    second = sample.second[held]
    error = 0.5 * (told[second == 0].mean() + (1 - told[second == 1]).mean()).item()
    return min(max(2.0 * (1.0 - 2.0 * error), 0.0), 2.0)


def held_out(sample: Sample, seed: int = 0) -> Tensor:
    """Which rows (n,) the classifier is judged on: those of every second id, ids being ordered by kind and chance."""
    chance = torch.rand(len(sample.kind), generator=torch_generator(seed, "gap halves"), dtype=torch.float64)
    place = (sample.kind + chance).argsort().argsort()
    return (place % 2 == 1)[sample.group]


def logistic_regression(x: Tensor, labels: Tensor) -> Tensor:
    """Weights and bias (f + 1,) for rows x (n, f) with labels (n,) 0 or 1; see :func:`proxy_a_distance`."""
    signs = 2.0 * labels - 1.0
    share = torch.where(labels > 0, 0.5 / labels.sum(), 0.5 / (1 - labels).sum())
    weights = torch.zeros(x.shape[1] + 1, dtype=x.dtype, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights], max_iter=1000, tolerance_grad=1e-9, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        scores = x @ weights[:-1] + weights[-1]
        loss = (share * softplus(-signs * scores)).sum() + weights[:-1].square().sum() / (2 * len(x))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach()


def _mmd(kernel: Tensor, group: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """MMD^2 (r,) of r weightings of the rows (r, n) for each domain; ``kernel`` is 0 between rows of one id."""
    of_first, of_second = first @ kernel, second @ kernel
    x, y = (w.new_zeros(len(w), int(group.max()) + 1).index_add_(1, group, w) for w in (first, second))

    def mean(total: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return total.sum(1) / (u.sum(1) * v.sum(1) - (u * v).sum(1)).clamp_min(1.0)

    return mean(of_first * first, x, x) + mean(of_second * second, y, y) - 2.0 * mean(of_first * second, x, y)


def _bootstrap(sample: Sample, n: int, generator: torch.Generator) -> Tensor:
    """How often each row is in each of ``n`` samples of ids, (n, rows)."""
    counts = sample.vectors.new_zeros(n, len(sample.kind))
    for kind in range(3):
        ids = torch.nonzero(sample.kind == kind).squeeze(1)
        if len(ids):
            drawn = ids[torch.randint(len(ids), (n, len(ids)), generator=generator)]
            counts.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=counts.dtype))
    return counts[:, sample.group]


def _permuted(sample: Sample, n: int, generator: torch.Generator) -> Tensor:
    """Labels as in ``second`` after ``n`` permutations, (n, rows): within each id of both domains, and the others."""
    stratum = torch.where(sample.kind == 1, torch.arange(1, len(sample.kind) + 1), 0)[sample.group]
    places = (stratum + torch.rand(n, len(stratum), generator=generator, dtype=torch.float64)).argsort(1)
    labels = sample.second[stratum.argsort(stable=True)].expand(n, -1)
    return torch.empty_like(places, dtype=labels.dtype).scatter_(1, places, labels)
