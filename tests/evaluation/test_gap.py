import math
from itertools import combinations

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from crossrec.adaptation.coral import Coral
from crossrec.adaptation.mmd import MMD
from crossrec.errors import CrossrecError
from crossrec.evaluation.gap import Sample, domain_gap, held_out, logistic_regression, mmd_test, proxy_a_distance


def normal(n=120, f=4, shift=0.0, seed=0):
    return torch.randn(n, f, generator=torch.Generator().manual_seed(seed)) + shift


def pooled(a, b, shared=0):
    """The last ``shared`` rows of a have the ids of the first of b."""
    return Sample.of(a, b, torch.arange(len(a)), torch.arange(len(b)) + len(a) - shared)


def kernel_of(x):
    distances = torch.cdist(x, x)
    upper = distances[tuple(torch.triu_indices(len(x), len(x), 1))]
    return lambda i, j: torch.exp(-((x[i] - x[j]) ** 2).sum() / (2 * upper.median() ** 2)).item()


@pytest.mark.parametrize("shared", [0, 4, 11])
def test_mmd_is_a_double_loop_over_pairs_with_different_ids(shared):
    a, b = normal(11), normal(13, shift=0.5, seed=1)
    sample = pooled(a, b, shared)
    k, group = kernel_of(sample.vectors), sample.group.tolist()
    first, second = range(11), range(11, 24)

    def mean(left, right):
        values = [k(i, j) for i in left for j in right if group[i] != group[j]]
        return sum(values) / len(values)

    value, *_ = mmd_test(sample, resamples=1)
    assert value == pytest.approx(mean(first, first) + mean(second, second) - 2 * mean(first, second), abs=1e-12)


def test_without_shared_ids_it_is_our_loss_and_scale_and_rotation_change_nothing():
    a, b = normal(60), normal(50, shift=0.4, seed=1)
    ids = torch.arange(60), torch.arange(60, 110)
    loss = MMD(bandwidths=(1.0,), estimator="unbiased")
    made = domain_gap(a, b, *ids, resamples=200)
    assert made.mmd == pytest.approx(loss.distance(a.double(), b.double()).item(), abs=1e-12)
    both = torch.cat([a, b]).double()
    scale = (both - both.mean(0)).square().mean().sqrt()
    assert made.coral == pytest.approx((Coral().distance(a.double(), b.double()) / scale**4).item(), rel=1e-9)
    turn = torch.linalg.qr(normal(4, seed=2).double()).Q
    moved = domain_gap(50 * a.double() @ turn + 7, 50 * b.double() @ turn + 7, *ids, resamples=200)
    for name in ("mmd", "low", "high", "p", "coral", "pad"):
        assert getattr(moved, name) == pytest.approx(getattr(made, name), abs=1e-6)


@pytest.mark.parametrize("shared", [0, 40], ids=["different ids", "a third shared"])
def test_samples_of_one_distribution_have_no_gap_and_far_ones_the_largest(shared):
    a, b = normal(), normal(seed=1)
    ids = torch.arange(120), torch.arange(120) + 120 - shared
    same, far = domain_gap(a, b, *ids), domain_gap(a, b + 20, *ids)
    assert same.low <= 0 <= same.high and same.p > 0.1 and same.pad < 0.4 and same.coral < 0.02
    assert far.low > 0.5 and far.low < far.mmd < far.high and far.p == 1 / 1000 and far.pad == 2


def test_the_same_vectors_of_the_same_ids_are_exactly_no_gap():
    a = normal()
    made = domain_gap(a, a, torch.arange(120), torch.arange(120))
    assert (made.p, made.pad, made.coral) == (1, 0, 0)
    assert max(abs(made.mmd), abs(made.low), abs(made.high)) < 1e-12


def test_vectors_that_are_all_equal_are_no_gap():
    ids = torch.arange(12)
    made = domain_gap(torch.ones(12, 3), torch.ones(12, 3), ids, ids + 12, resamples=50)
    assert (made.mmd, made.low, made.high, made.p, made.coral, made.pad) == (0, 0, 0, 1, 0, 0)


def observed_and_all(sample, splits):
    """MMD^2 by pairs of rows, of the sample's labels and of other choices of the second domain's rows."""
    k, n = kernel_of(sample.vectors), len(sample.vectors)
    table = torch.tensor([[k(i, j) if sample.group[i] != sample.group[j] else 0.0 for j in range(n)] for i in range(n)])
    counted = (sample.group.unsqueeze(1) != sample.group).double()

    def mmd(second):
        y = torch.zeros(n).double()
        y[list(second)] = 1
        x = 1 - y
        value = [(u @ table.double() @ v) / (u @ counted @ v) for u, v in ((x, x), (y, y), (x, y))]
        return (value[0] + value[1] - 2 * value[2]).item()

    own = mmd(torch.nonzero(sample.second).squeeze(1).tolist())
    return sum(mmd(split) >= own - 1e-9 for split in splits) / len(splits)


def test_p_is_that_of_all_permutations():
    sample = pooled(normal(10, 2), normal(10, 2, shift=0.45, seed=3))
    keep = torch.tensor([0, 1, 2, 3, 4, 10, 11, 12, 13, 14])  # 252 ways to deal ten labels
    tiny = Sample(sample.vectors[keep], sample.second[keep], torch.arange(10), torch.tensor([0] * 5 + [2] * 5))
    exact = observed_and_all(tiny, list(combinations(range(10), 5)))
    *_, p = mmd_test(tiny, resamples=20000)
    assert 0.02 < exact < 0.5 and p == pytest.approx(exact, abs=0.015)


def test_p_of_shared_ids_swaps_the_two_rows_of_each():
    a = normal(10, 2)
    sample = pooled(a, a + 0.3 * normal(10, 2, seed=5) + 0.05, shared=10)
    splits = [[i + 10 * (bits >> i & 1) for i in range(10)] for bits in range(2**10)]
    exact = observed_and_all(sample, splits)
    *_, p = mmd_test(sample, resamples=20000)
    assert 0.02 < exact < 0.98 and p == pytest.approx(exact, abs=0.015)


def test_the_interval_covers_the_gap_of_two_gaussians():
    f, shift, covered = 3, 1.0, 0
    for seed in range(30):
        a, b = normal(150, f, seed=seed), normal(150, f, shift, seed + 100)
        _, low, high, _ = mmd_test(pooled(a, b), resamples=400)
        sigma2 = torch.pdist(torch.cat([a, b])).median().item() ** 2
        within = (sigma2 / (sigma2 + 2)) ** (f / 2)  # E exp(-|z|^2 / (2 sigma2)) of z ~ N(0, 2 I)
        covered += low <= 2 * within * (1 - math.exp(-f * shift**2 / (2 * (sigma2 + 2)))) <= high
    assert covered >= 26


def test_all_rows_of_an_id_lie_on_one_side_and_both_sides_have_both_domains():
    sample = pooled(normal(31), normal(22), shared=9)
    held = held_out(sample)
    assert 26 <= int(held.sum()) <= 27
    for kind in range(3):
        ids = torch.nonzero(sample.kind == kind).squeeze(1)
        sides = torch.stack([held[sample.group == i].float().mean() for i in ids])
        assert set(sides.tolist()) == {0.0, 1.0} and abs(sides.mean().item() - 0.5) < 0.1
    assert not torch.equal(held, held_out(sample, seed=1)) and torch.equal(held, held_out(sample))


def test_a_row_of_a_known_id_would_mislead_the_classifier(monkeypatch):
    a = 3 * normal(200, 150)  # more directions than ids to learn from: whom it has seen, it knows
    sample = pooled(a, a + normal(200, 150, shift=0.2, seed=1), shared=200)
    by_id = proxy_a_distance(sample)
    rows = torch.randperm(400, generator=torch.Generator().manual_seed(0)) % 2 == 1
    monkeypatch.setattr("crossrec.evaluation.gap.held_out", lambda *_: rows)
    assert by_id > proxy_a_distance(sample) + 0.2


@pytest.mark.parametrize(("n", "m"), [(60, 60), (90, 30)])
def test_the_classifier_and_the_distance_are_those_of_sklearn(n, m):
    sample = pooled(normal(n, 3), normal(m, 3, shift=1.0, seed=1))
    held, x, labels = held_out(sample), sample.vectors, sample.second
    # their sum of losses, at n_rows / (2 rows of the class) each, and half of |w|^2: n_rows times ours
    theirs = LogisticRegression(C=1.0, class_weight="balanced", tol=1e-10, max_iter=1000).fit(x[~held], labels[~held])
    ours = logistic_regression(x[~held], labels[~held])
    assert torch.allclose(ours, torch.tensor([*theirs.coef_[0], *theirs.intercept_], dtype=torch.float64), atol=1e-6)
    told = balanced_accuracy_score(labels[held], theirs.predict(x[held]))
    assert 0.5 < proxy_a_distance(sample) == pytest.approx(2 * (2 * told - 1))


@pytest.mark.parametrize(("shift", "expected"), [(1.0, 0.766), (2.0, 1.365)])
def test_pad_of_two_gaussians_is_that_of_the_best_line(shift, expected):
    a, b = normal(4000, 1), normal(4000, 1, shift, seed=1)  # err of the best threshold is Phi(-shift / 2)
    error = torch.distributions.Normal(0.0, 1.0).cdf(torch.tensor(-shift / 2)).item()
    assert 2 * (1 - 2 * error) == pytest.approx(expected, abs=1e-3)
    assert proxy_a_distance(pooled(a, b)) == pytest.approx(expected, abs=0.08)


def test_seeds_and_the_global_random_state():
    a, b, ids = normal(40), normal(40, shift=0.3, seed=1), torch.arange(40)
    state = torch.random.get_rng_state()
    first, again = (domain_gap(a, b, ids, ids + 40, resamples=99) for _ in range(2))
    assert first == again != domain_gap(a, b, ids, ids + 40, resamples=99, seed=1)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("a", "ids", "message"),
    [
        (normal(9), torch.arange(9), "shows 9 different ids; a gap needs 10"),
        (normal(20), torch.zeros(20), "shows 1 different ids; a gap needs 10"),
        (torch.full((20, 4), torch.nan), torch.arange(20), "not finite"),
    ],
)
def test_what_cannot_be_measured_is_told(a, ids, message):
    with pytest.raises(CrossrecError, match=message):
        domain_gap(a, normal(20), ids, torch.arange(20) + 20)
