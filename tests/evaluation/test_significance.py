import time
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from crossrec.errors import CrossrecError
from crossrec.evaluation.significance import EXACT, bootstrap_interval, holm, permutation_test, wilcoxon_test


def normal(n: int, mean: float = 0.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1.0, n)


def ranks(n: int, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    """Differences as leave-one-out gives them: mostly zero, few distinct values."""
    rng = np.random.default_rng(seed)
    values = np.array([0.0, 1.0, 0.6309, 0.5, 0.4307])
    a = rng.choice(values, n, p=[0.8 - shift, 0.05 + shift, 0.05, 0.05, 0.05])
    return a - rng.choice(values, n, p=[0.8, 0.05, 0.05, 0.05, 0.05])


def by_scipy(differences: np.ndarray, n_resamples: int = 9999) -> float:
    test = stats.permutation_test(
        (differences,), lambda d, axis: d.mean(axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=n_resamples, rng=np.random.default_rng(1), batch=500,
    )  # fmt: skip
    return float(test.pvalue)


@pytest.mark.parametrize("n", [2, 3, 7, EXACT])
def test_small_samples_are_enumerated_as_scipy_does(n: int) -> None:
    for seed in range(5):
        differences = normal(n, 0.5, seed)
        assert permutation_test(differences) == pytest.approx(by_scipy(differences, 10**6), abs=1e-12)
        assert permutation_test(differences, seed=1) == permutation_test(differences, seed=2)


def test_ties_and_zeros_are_enumerated_as_scipy_does() -> None:
    differences = np.array([0.1, 0.1, 0.2, -0.1, 0.0, 0.3, -0.3, 0.1, 0.0])
    expected = by_scipy(differences, 10**6)
    assert permutation_test(differences) == pytest.approx(expected, abs=1e-12)
    assert permutation_test(differences[differences != 0]) == permutation_test(differences)
    # as computed, 0.1 + 0.2 is not 0.3; the pattern is still as extreme as the one observed
    assert permutation_test([0.1 + 0.2, -0.3, 0.3]) == 1.0
    assert permutation_test(differences * 1e-9) == permutation_test(differences * 1e9) == permutation_test(differences)


@pytest.mark.parametrize("make", [lambda: normal(60, 0.25), lambda: ranks(3000, 3, 0.02)], ids=["bits", "binomial"])
def test_random_patterns_agree_with_scipy(make) -> None:
    differences = make()
    expected = by_scipy(differences)
    error = 4 * np.sqrt(2 * expected * (1 - expected) / 9999)
    p = permutation_test(differences)
    assert 0.001 < expected < 0.5
    assert p == pytest.approx(expected, abs=error)
    assert p == permutation_test(differences, seed=0) == permutation_test(-differences)


def test_p_is_uniform_under_the_null_and_small_with_an_effect() -> None:
    for test in (lambda d: permutation_test(d, n_resamples=199), wilcoxon_test):
        null = [test(normal(40, seed=s)) for s in range(300)]
        assert stats.kstest(null, "uniform").pvalue > 0.01
        assert np.mean([p <= 0.05 for p in null]) < 0.09
        assert np.median([test(normal(40, 0.8, s)) for s in range(30)]) <= 0.005
    null = [permutation_test(ranks(2000, s), n_resamples=199) for s in range(300)]
    assert stats.kstest(null, "uniform").pvalue > 0.01


def test_a_clear_effect_has_its_small_p() -> None:
    for positive in (600, 650, 800, 999, 1000):
        differences = np.repeat([1.0, -1.0, 0.0], [positive, 1000 - positive, 500])
        expected = 2 * stats.binom.sf(positive - 1, 1000, 0.5)
        assert permutation_test(differences) == pytest.approx(expected, rel=0.2)
        assert permutation_test(differences) == permutation_test(-differences)
    differences = normal(1000, 0.5)
    p = permutation_test(differences)
    z = differences.sum() / np.sqrt((differences**2).sum())
    assert 0 < p < 1e-30 and np.log(p) == pytest.approx(np.log(2 * stats.norm.sf(z)), rel=0.1)
    for n in (13, 17, 19):
        for seed in range(4):
            differences = normal(n, 1.6, seed)
            expected = by_scipy(differences, 10**6)
            assert permutation_test(differences) == pytest.approx(expected, rel=0.2 if expected < 5e-4 else 1)
    assert permutation_test(np.linspace(0.1, 1, 30)) == pytest.approx(2 / 2**30, rel=0.01)
    assert 0 < permutation_test(np.ones(5000)) < 1e-300
    assert holm([permutation_test(normal(1000, 0.5, s)) for s in range(40)])[0] < 0.001


def test_small_p_are_as_rare_as_they_say() -> None:
    # few resamples, so that every p below .1 is one of the tail
    null = np.array([permutation_test(ranks(400, s), n_resamples=99) for s in range(2000)])
    for level in (0.1, 0.05, 0.01):
        assert np.mean(null <= level) == pytest.approx(level, abs=4 * np.sqrt(level / 2000))


def test_many_users_take_seconds_and_little_memory() -> None:
    differences = normal(47_000, 0.004)
    start = time.process_time()
    tracemalloc.start()
    p = permutation_test(differences)
    low, high = bootstrap_interval(differences)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - start < 20
    assert peak < 300e6
    z = abs(differences.mean()) / differences.std() * np.sqrt(len(differences))
    assert p == pytest.approx(2 * stats.norm.sf(z), abs=0.02)
    assert (high - low) == pytest.approx(2 * 1.96 / np.sqrt(47_000), rel=0.06)


def test_chunks_give_as_many_resamples_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crossrec.evaluation.significance.CELLS", 1000)
    for differences in (normal(60, 0.25), ranks(3000, 3, 0.02)):
        p = permutation_test(differences, n_resamples=999)
        assert p * 1000 == pytest.approx(round(p * 1000), abs=1e-9)
        assert p == pytest.approx(by_scipy(differences), abs=0.06)
    low, high = bootstrap_interval(normal(300), n_resamples=999)
    assert low < normal(300).mean() < high
    assert permutation_test(np.ones(100), n_resamples=99) == pytest.approx(2 / 2**100)


def test_wilcoxon_is_scipys_and_leaves_zeros_out() -> None:
    for n in (6, 40, 400):
        differences = normal(n, 0.2, n)
        assert wilcoxon_test(differences) == pytest.approx(stats.wilcoxon(differences).pvalue)
    sparse = ranks(4000, 5, 0.02)
    assert wilcoxon_test(sparse) == pytest.approx(stats.wilcoxon(sparse[sparse != 0]).pvalue, rel=1e-9)
    assert wilcoxon_test([0.1 + 0.2, -0.3, 0.0]) == 1.0  # equal sizes share a rank in spite of rounding


@pytest.mark.parametrize("make", [lambda: normal(80, 0.3), lambda: ranks(3000, 3, 0.02)], ids=["draws", "counts"])
def test_the_bootstrap_agrees_with_scipy(make) -> None:
    differences = make()
    for level in (0.8, 0.95):
        expected = stats.bootstrap(
            (differences,), np.mean, method="percentile", confidence_level=level, n_resamples=9999,
            rng=np.random.default_rng(2), batch=200,
        ).confidence_interval  # fmt: skip
        found = bootstrap_interval(differences, level=level, n_resamples=9999)
        width = expected.high - expected.low
        assert found == pytest.approx(tuple(expected), abs=0.04 * width)
    assert bootstrap_interval(differences, seed=1) == bootstrap_interval(differences, seed=1)
    assert bootstrap_interval(differences, seed=1) != bootstrap_interval(differences, seed=2)


def test_holm_by_hand() -> None:
    # sorted .01 .02 .03 .5 times 4 3 2 1: .04 .06 .06 .5
    assert holm([0.03, 0.5, 0.01, 0.02]) == pytest.approx([0.06, 0.5, 0.04, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_holm_is_monotone_and_never_below_p() -> None:
    p = np.random.default_rng(0).random(50) ** 3
    adjusted = np.array(holm(list(p)))
    order = np.argsort(p)
    assert (np.diff(adjusted[order]) >= 0).all()
    assert (adjusted >= p).all() and (adjusted <= np.minimum(50 * p, 1.0) + 1e-12).all()
    assert list(adjusted[::-1]) == holm(list(p[::-1]))


def test_one_difference_and_equal_ones() -> None:
    assert permutation_test([0.4]) == wilcoxon_test([0.4]) == 1.0
    assert bootstrap_interval([0.4]) == (0.4, 0.4)
    assert permutation_test(np.full(10, 0.4)) == wilcoxon_test(np.full(10, 0.4)) == 2 / 2**10
    assert bootstrap_interval(np.full(10, 0.4)) == (0.4, 0.4)
    assert permutation_test(np.zeros(9)) == wilcoxon_test(np.zeros(9)) == 1.0
    assert bootstrap_interval(np.zeros(9)) == (0.0, 0.0)


@pytest.mark.parametrize("function", [permutation_test, wilcoxon_test, bootstrap_interval])
def test_what_cannot_be_tested_is_told(function) -> None:
    with pytest.raises(CrossrecError, match="no differences to test"):
        function([])
    with pytest.raises(CrossrecError, match="difference 2 of 3 is nan"):
        function([0.1, float("nan"), 0.2])
    with pytest.raises(CrossrecError, match=r"shape \(1, 2\)"):
        function([[0.1, 0.2]])


def test_wrong_options_are_told() -> None:
    with pytest.raises(CrossrecError, match="level is 95"):
        bootstrap_interval([0.1, 0.2], level=95)
    with pytest.raises(CrossrecError, match="n_resamples is 0"):
        permutation_test([0.1], n_resamples=0)
    with pytest.raises(CrossrecError, match="n_resamples is 0"):
        bootstrap_interval([0.1], n_resamples=0)
    with pytest.raises(CrossrecError, match="p-value 2 of 2 is nan"):
        holm([0.1, float("nan")])
    with pytest.raises(CrossrecError, match=r"p-value 1 of 1 is 1\.5"):
        holm([1.5])
