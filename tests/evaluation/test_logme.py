import math

import numpy as np
import pytest
import torch

from crossrec.errors import CrossrecError
from crossrec.evaluation.logme import NO_RELATION, log_evidence, logme


def drawn(n: int, w: int, k: int, noise: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(n + w)
    x = rng.standard_normal((n, w)) * np.linspace(0.2, 3, w)
    y = x @ rng.standard_normal((w, k)) + noise * rng.standard_normal((n, k))
    return torch.from_numpy(x), torch.from_numpy(y)


@pytest.mark.parametrize(("n", "w"), [(60, 5), (20, 40)])
def test_evidence_is_the_highest_density_of_the_labels_over_alpha_and_beta(n: int, w: int) -> None:
    from scipy.optimize import minimize
    from scipy.stats import multivariate_normal

    x, y = drawn(n, w, 2)
    features = x.numpy()
    for label, found in zip(y.T.numpy(), log_evidence(x, y)):

        def negative(logs: np.ndarray, label: np.ndarray = label) -> float:
            cov = np.eye(n) / np.exp(logs[1]) + features @ features.T / np.exp(logs[0])
            return -float(multivariate_normal(np.zeros(n), cov).logpdf(label))

        best = min(minimize(negative, start, method="Nelder-Mead").fun for start in ([0, 0], [2, 1], [-2, -1]))
        assert float(found) == pytest.approx(-best, abs=1e-3)


def test_evidence_is_that_of_scikit_learns_bayesian_ridge() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    x, y = drawn(200, 12, 3)
    none = {"alpha_1": 0, "alpha_2": 0, "lambda_1": 0, "lambda_2": 0}
    for label, found in zip(y.T.numpy(), log_evidence(x, y)):
        ridge = linear.BayesianRidge(max_iter=2000, tol=1e-10, compute_score=True, fit_intercept=False, **none)
        assert float(found) == pytest.approx(ridge.fit(x.numpy(), label).scores_[-1], abs=1e-3)


def test_offsets_and_units_do_not_matter_and_no_relation_has_its_value() -> None:
    x, y = drawn(300, 6, 4)
    value = logme(x, y)
    assert logme(7 * x + 3, y * torch.tensor([1.0, 10, 0.1, 2]) - 5) == pytest.approx(value, abs=1e-6)
    assert value > -0.7
    noise = torch.randn(300, 4, generator=torch.Generator().manual_seed(0))
    assert logme(x, noise) == pytest.approx(NO_RELATION, abs=0.01)
    assert logme(torch.zeros(300, 6), noise) == pytest.approx(NO_RELATION, abs=1e-9)
    assert pytest.approx(-1.4189, abs=1e-4) == NO_RELATION


def test_less_noise_is_better_and_useless_width_is_worse() -> None:
    clear, noisy = (logme(*drawn(200, 5, 3, noise)) for noise in (0.3, 3.0))
    assert clear > noisy
    x, y = drawn(200, 5, 3)
    useless = torch.randn(200, 100, generator=torch.Generator().manual_seed(1)).double() * 3
    assert logme(torch.cat([x, useless], 1), y) < logme(x, y)


def test_labels_that_say_nothing_are_left_out_or_refused() -> None:
    x, y = drawn(50, 4, 2)
    constant = torch.cat([y, torch.ones(50, 1)], 1)
    assert logme(x, constant) == logme(x, y) and math.isfinite(logme(x, x[:, :1]))
    with pytest.raises(CrossrecError, match="labels that are all the same"):
        logme(x, torch.ones(50, 2))
    with pytest.raises(CrossrecError, match="1 rows of features and 1 of labels"):
        logme(x[:1], y[:1])
