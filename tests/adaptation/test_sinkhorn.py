"""Sinkhorn divergence against closed forms and POT; geomloss is in test_references."""

import pytest
import torch
from samples import samples

from crossrec.adaptation.sinkhorn import Sinkhorn

ot = pytest.importorskip("ot")


def by_pot(a, b, p, epsilon):
    """OT_eps with the plan of POT, whose objective leaves constants out."""
    cost = torch.cdist(a, b) ** p / p
    n, m = cost.shape
    weights = torch.ones_like(cost[:, 0]) / n, torch.ones_like(cost[0]) / m
    plan = ot.sinkhorn(*weights, cost, epsilon, method="sinkhorn_log", numItermax=20000, stopThr=1e-12)
    return (plan * cost).sum() + epsilon * torch.xlogy(plan, plan * n * m).sum()


EXACT = {"relative": False, "iterations": 2000, "tolerance": 1e-10}


@pytest.mark.parametrize(("n", "m"), [(7, 5), (6, 6), (2, 9)])
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("epsilon", [1.0, 4.0])
def test_sinkhorn_is_that_of_pot(n, m, p, epsilon):
    a, b = samples(n, m)
    across = Sinkhorn(p=p, epsilon=epsilon, debiased=False, **EXACT).distance(a, b)
    assert torch.allclose(across, by_pot(a, b, p, epsilon), rtol=1e-7)
    value = Sinkhorn(p=p, epsilon=epsilon, **EXACT).distance(a, b)
    within = by_pot(a, a, p, epsilon) + by_pot(b, b, p, epsilon)
    assert torch.allclose(value, across - within / 2, rtol=1e-6)


@pytest.mark.parametrize("p", [1, 2])
def test_sinkhorn_between_its_two_limits(p):
    """Unregularised transport at one end, the mean cost (for p = 2 half the squared gap of means) at the other."""
    a, b = samples(6, 8)
    near = Sinkhorn(p=p, epsilon=1e-3, relative=False, scaling=0.97, iterations=400, debiased=False).distance(a, b)
    uniform = torch.ones_like(a[:, 0]) / 6, torch.ones_like(b[:, 0]) / 8
    assert near.item() == pytest.approx(ot.emd2(*uniform, torch.cdist(a, b) ** p / p).item(), rel=5e-3)
    far = Sinkhorn(p=p, epsilon=1e6, relative=False).distance(a, b)
    energy = torch.cdist(a, b).mean() - 0.5 * (torch.cdist(a, a).mean() + torch.cdist(b, b).mean())
    gap = 0.5 * (a.mean(0) - b.mean(0)).square().sum()
    assert far.item() == pytest.approx((energy if p == 1 else gap).item(), rel=1e-4)


@pytest.mark.parametrize("epsilon", [0.2, 5.0])
def test_sinkhorn_of_a_shift_is_half_its_squared_length(epsilon):
    a, _ = samples()
    shift = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    value = Sinkhorn(epsilon=epsilon, iterations=2000, tolerance=1e-9).distance(a, a + shift)
    assert value.item() == pytest.approx(0.5 * 5.25, rel=1e-6)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("debiased", [True, False])
@pytest.mark.parametrize("options", [EXACT, {"gradient": "unrolled", "relative": False, "iterations": 4}])
def test_sinkhorn_gradcheck(p, debiased, options):
    loss = Sinkhorn(p=p, epsilon=1.0, debiased=debiased, **options)
    a, b = samples(4, 3, 2)
    assert torch.autograd.gradcheck(loss.distance, (a.requires_grad_(), b.requires_grad_()))


def test_envelope_and_unrolled_gradients_meet_at_convergence():
    a, b = samples()
    gradients = {}
    for iterations in (3, 500):
        for gradient in ("envelope", "unrolled"):
            x = a.clone().requires_grad_()
            Sinkhorn(gradient=gradient, iterations=iterations, tolerance=0).distance(x, b).backward()
            gradients[gradient, iterations] = x.grad
    assert torch.allclose(gradients["envelope", 500], gradients["unrolled", 500], atol=1e-6)
    assert not torch.allclose(gradients["envelope", 3], gradients["unrolled", 3], atol=1e-3)


@pytest.mark.parametrize("iterations", [1, 2, 7])
def test_sinkhorn_is_symmetric_and_zero_at_identity_before_convergence(iterations):
    a, b = samples()
    loss = Sinkhorn(iterations=iterations)
    assert torch.allclose(loss.distance(a, b), loss.distance(b, a), atol=1e-12)
    assert abs(loss.distance(a, a.flip(0)).item()) < 1e-12


@pytest.mark.parametrize("p", [1, 2])
def test_sinkhorn_scales_with_its_power(p):
    a, b = samples()
    relative, double = Sinkhorn(p=p), Sinkhorn(p=p, epsilon=0.1 * 3**p, relative=False)
    assert torch.allclose(relative.distance(3 * a, 3 * b), 3**p * relative.distance(a, b))
    absolute = Sinkhorn(p=p, epsilon=0.1, relative=False)
    assert torch.allclose(double.distance(3 * a, 3 * b), 3**p * absolute.distance(a, b))


def test_biased_sinkhorn_collapses_and_debiased_does_not():
    a, _ = samples(20)
    for debiased, expected in ((True, 0.0), (False, pytest.approx(1.0, abs=0.3))):
        b = a.clone().requires_grad_()
        Sinkhorn(epsilon=2.0, debiased=debiased, iterations=300).distance(a, b).backward()
        pull = (b.grad * 20 * (a - a.mean(0))).sum() / (a - a.mean(0)).square().sum()  # towards the mean is positive
        assert round(pull.item(), 4) == expected


def test_sinkhorn_stops_at_its_tolerance():
    a, b = samples(30, 20)
    exact = Sinkhorn(iterations=3000, tolerance=1e-12).distance(a, b)
    errors = [abs((Sinkhorn(iterations=3000, tolerance=t).distance(a, b) - exact).item()) for t in (0.3, 0.03, 0.003)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2] and errors[2] < 1e-4
    assert Sinkhorn(iterations=5, debiased=False).distance(a, b) < Sinkhorn(debiased=False).distance(a, b)
