"""Losses against independent packages: geomloss, torchmetrics' KID, scikit-learn and scipy.

POT is the reference of the transport losses in test_sliced_wasserstein, test_sinkhorn and test_gromov_wasserstein, and
of the Frechet distance in test_moments; torch's divergence that of VIB in test_shared_private_losses.
"""

import geomloss
import numpy as np
import pytest
import torch
from samples import samples
from scipy.stats import wasserstein_distance
from sklearn.covariance import empirical_covariance
from sklearn.metrics import log_loss
from sklearn.metrics.pairwise import cosine_similarity, linear_kernel, rbf_kernel
from torchmetrics.image.kid import maximum_mean_discrepancy, poly_mmd

from crossrec.adaptation.adversarial import CriticRows
from crossrec.adaptation.contrastive import InfoNCE
from crossrec.adaptation.coral import Coral
from crossrec.adaptation.dann import DANN
from crossrec.adaptation.hsic import HSIC
from crossrec.adaptation.joint_mmd import JointMMD
from crossrec.adaptation.kernels import gaussian_mixture
from crossrec.adaptation.mmd import MMD
from crossrec.adaptation.numerics import squared_distances
from crossrec.adaptation.sinkhorn import Sinkhorn
from crossrec.adaptation.sliced_wasserstein import SlicedWasserstein

MULTIPLES, SIGMA = (0.5, 1.0, 3.0), 1.3


def with_gradients(function, a, b):
    a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
    value = function(a, b)
    return value.detach(), *torch.autograd.grad(value, (a, b))


def close(ours, theirs, rtol):
    return all(torch.allclose(x, y, rtol=rtol, atol=rtol * y.abs().max().item()) for x, y in zip(ours, theirs))


# geomloss: half of MMD^2 for a kernel of one Gaussian, and the divergence with eps = blur^p


def test_gaussian_mmd_is_that_of_geomloss():
    a, b = samples()

    def theirs(x, y):
        blurs = [SIGMA * c**0.5 for c in MULTIPLES]
        return sum(2 * geomloss.SamplesLoss("gaussian", blur=blur)(x, y) for blur in blurs) / len(blurs)

    ours = with_gradients(MMD(bandwidth=SIGMA, bandwidths=MULTIPLES).distance, a, b)
    assert close(ours, with_gradients(theirs, a, b), 1e-12)


@pytest.mark.parametrize(("n", "m"), [(7, 5), (6, 6)])
@pytest.mark.parametrize("debiased", [True, False])
@pytest.mark.parametrize(("p", "epsilon"), [(1, 1.0), (2, 4.0)])
def test_sinkhorn_is_that_of_geomloss(n, m, debiased, p, epsilon):
    a, b = samples(n, m)
    blur = epsilon ** (1 / p)
    theirs = geomloss.SamplesLoss(
        "sinkhorn", p=p, blur=blur, diameter=2 * blur, scaling=0.9995, debias=debiased, backend="tensorized",
        # their own takes a root of at least 1e-8, which between equal rows is 1e-4
        cost=(lambda x, y: torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")) if p == 1 else None,
    )  # fmt: skip
    loss = Sinkhorn(p=p, epsilon=epsilon, relative=False, debiased=debiased, iterations=2000, tolerance=1e-10)
    (value, *ours), (expected, *wanted) = with_gradients(loss.distance, a, b), with_gradients(theirs, a, b)
    assert torch.allclose(value, expected, rtol=1e-6)
    assert close(ours, wanted, 2e-3)  # they stop before the potentials have settled


# torchmetrics, whose estimator is the unbiased one and takes samples of one size


def test_unbiased_mmd_is_the_estimator_of_kid():
    a, b = samples(6, 6)
    linear = MMD(kernel="linear", estimator="unbiased").distance
    kid = with_gradients(lambda x, y: poly_mmd(x, y, degree=1, gamma=1.0, coef=0.0), a, b)
    assert close(with_gradients(linear, a, b), kid, 1e-12)

    def of_our_kernel(x, y):
        squares = squared_distances(torch.cat([x, y]))
        kernel = gaussian_mixture(squares, squares.new_tensor(SIGMA**2), MULTIPLES, "mean")
        return maximum_mean_discrepancy(kernel[:6, :6], kernel[:6, 6:], kernel[6:, 6:])

    ours = with_gradients(MMD(bandwidth=SIGMA, bandwidths=MULTIPLES, estimator="unbiased").distance, a, b)
    assert close(ours, with_gradients(of_our_kernel, a, b), 1e-12)


def rbf(x, y=None):
    return np.mean([rbf_kernel(x, y, gamma=1 / (2 * c * SIGMA**2)) for c in MULTIPLES], axis=0)


def test_mmd_is_the_estimator_of_kid_on_the_kernels_of_sklearn():
    (a, b), (c, d) = samples(6, 6), samples(6, 6, seed=1)
    options = {"bandwidth": SIGMA, "bandwidths": MULTIPLES, "estimator": "unbiased"}

    def kid(*kernels):
        return maximum_mean_discrepancy(*map(torch.from_numpy, kernels)).item()

    alone = [rbf(a), rbf(a, b), rbf(b)]
    joint = [k * other for k, other in zip(alone, [rbf(c), rbf(c, d), rbf(d)])]
    assert MMD(**options).distance(a, b).item() == pytest.approx(kid(*alone), rel=1e-12)
    assert JointMMD(**options).joint([(a, b), (c, d)]).item() == pytest.approx(kid(*joint), rel=1e-12)


# scikit-learn and scipy


def test_biased_mmd_and_hsic_are_means_over_the_kernels_of_sklearn():
    a, b = samples(7, 7)
    value = MMD(bandwidth=SIGMA, bandwidths=MULTIPLES).distance(a, b[:5]).item()
    assert value == pytest.approx(rbf(a).mean() + rbf(b[:5]).mean() - 2 * rbf(a, b[:5]).mean(), rel=1e-12)
    h = np.eye(7) - 1 / 7
    for options, kernel in (
        ({"kernel": "linear"}, linear_kernel),
        ({"bandwidth": SIGMA}, lambda x: rbf_kernel(x, gamma=1 / (2 * SIGMA**2))),
    ):
        expected = np.trace(kernel(a) @ h @ kernel(b) @ h) / 6**2
        assert HSIC(**options).paired(a, b).item() == pytest.approx(expected, rel=1e-12)


def test_coral_is_of_the_covariances_of_sklearn():
    a, b = samples(9, 6)
    gap = empirical_covariance(a) * 9 / 8 - empirical_covariance(b) * 6 / 5
    assert Coral().distance(a, b).item() == pytest.approx((gap**2).sum() / (4 * 3**2), rel=1e-12)


def test_infonce_and_dann_are_the_log_loss_of_sklearn():
    a, b = samples(6, 6)
    p = torch.from_numpy(cosine_similarity(a, b) / 0.5).softmax(1)
    assert InfoNCE(temperature=0.5, direction="one_way").paired(a, b).item() == pytest.approx(log_loss(range(6), p))
    critic = DANN(dim=3, hidden=[4])
    critic.prepare(3)
    x, domains = torch.cat([a, b]), torch.tensor([0] * 7 + [1] * 3 + [2] * 2)
    value = critic.double().critic_loss(CriticRows(x, domains, torch.ones(12, dtype=torch.float64)))
    weights = 1 / torch.bincount(domains)[domains]
    expected = log_loss(domains, critic.critic(x).softmax(1).detach(), sample_weight=weights)
    assert value.item() == pytest.approx(expected)


def test_sliced_wasserstein_of_power_one_is_that_of_scipy_along_each_line():
    a, b = samples()
    loss = SlicedWasserstein(p=1, n_projections=20, resample=False)
    along = [wasserstein_distance(a @ line, b @ line) for line in loss._lines(a).T]
    assert loss.distance(a, b).item() == pytest.approx(np.mean(along), rel=1e-12)
