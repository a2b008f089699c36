"""Gromov-Wasserstein discrepancy against closed forms and POT."""

import sys

import pytest
import torch
from samples import samples

from crossrec.adaptation.gromov_wasserstein import GromovWasserstein
from crossrec.errors import CrossrecError

ot = pytest.importorskip("ot")


def rotation(f=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(f, f, generator=g, dtype=torch.float64)).Q


def by_definition(c, d, plan):
    return ((c[:, None, :, None] - d[None, :, None, :]).square() * plan[:, :, None, None] * plan[None, None]).sum()


def distances(x, power=1):
    return (x[:, None] - x[None]).square().sum(2).clamp_min(1e-300) ** (power / 2)


@pytest.mark.parametrize(("n", "m"), [(7, 5), (6, 6), (3, 8)])
@pytest.mark.parametrize(("within", "power"), [("euclidean", 1), ("squared_euclidean", 2)])
def test_gromov_is_that_of_pot_and_so_is_its_gradient(n, m, within, power):
    a, b = samples(n, m)
    a.requires_grad_()
    loss = GromovWasserstein(within=within, tolerance=1e-12)
    c, d = torch.cdist(a, a) ** power, torch.cdist(b, b) ** power
    plan = loss._plan(c.detach(), d)
    assert plan.sum(0).tolist() == pytest.approx([1 / m] * m) and plan.sum(1).tolist() == pytest.approx([1 / n] * n)
    value, pots = loss.distance(a, b), ot.gromov.gromov_wasserstein2(c, d, tol_rel=1e-12, tol_abs=1e-12)
    assert torch.allclose(value, by_definition(c, d, plan)) and torch.allclose(value, pots, rtol=1e-6)
    (ours,), (theirs,) = torch.autograd.grad(value, a), torch.autograd.grad(pots, a)
    assert torch.allclose(ours, theirs, atol=1e-6)
    uniform = by_definition(c, d, torch.full_like(plan, 1 / (n * m)))
    assert value < uniform


@pytest.mark.parametrize("within", ["euclidean", "squared_euclidean"])
def test_gromov_gradcheck(within):
    a, b = samples(6, 5)
    loss = GromovWasserstein(within=within, tolerance=1e-12)
    assert torch.autograd.gradcheck(loss.distance, (a.requires_grad_(), b.requires_grad_()))


def test_gromov_does_not_feel_rotation_reflection_shift_or_width():
    a, b = samples(9, 7)
    loss, turn = GromovWasserstein(), rotation()
    wide = torch.cat([b @ turn, torch.full((7, 2), 3.0, dtype=torch.float64)], 1)
    value = loss.distance(a, b)
    assert value > 0.05
    assert torch.allclose(loss.distance(a @ turn + 5, b), value)
    assert torch.allclose(loss.distance(a, -b), value)
    assert torch.allclose(loss.distance(a, wide), value)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    assert abs(loss.distance(a, (a @ turn - 2)[order]).item()) < 1e-12


def test_gromov_scaling_laws():
    a, b = samples()
    for within, power in (("euclidean", 1), ("squared_euclidean", 2)):
        loss = GromovWasserstein(within=within)
        assert torch.allclose(loss.distance(3 * a, 3 * b), 9**power * loss.distance(a, b))
        stretched = (2.0**power - 1) ** 2 * distances(a, power).square().mean()  # the plan keeps every row
        assert torch.allclose(loss.distance(a, 2 * a), stretched)


def test_gromov_thins_evenly():
    a, b = samples(10, 4)
    loss = GromovWasserstein(max_rows=4)
    assert loss._thin(torch.arange(10)).tolist() == [0, 2, 5, 7]
    assert torch.equal(loss.distance(a, b), GromovWasserstein().distance(a[[0, 2, 5, 7]], b))


def test_gromov_takes_its_iterations_and_tolerance():
    a, b = samples(30, 20)
    values = [GromovWasserstein(iterations=k).distance(a, b).item() for k in (1, 2, 100)]
    assert values[0] > values[1] > values[2]
    assert GromovWasserstein(tolerance=0.9).distance(a, b) > values[2]


def test_descent_on_gromov_alone_brings_shapes_together():
    a, b = samples(12, 12, 2)
    b = (b * torch.tensor([0.2, 2.0])).requires_grad_()
    loss, optimizer = GromovWasserstein(), torch.optim.Adam([b], lr=0.05)
    first = loss.distance(a, b).item()
    for _ in range(100):
        optimizer.zero_grad()
        loss.distance(a, b).backward()
        optimizer.step()
    assert loss.distance(a, b).item() < 0.1 * first
    spread_a, spread_b = (torch.linalg.svdvals(x - x.mean(0)) for x in (a, b.detach()))
    assert torch.allclose(spread_a, spread_b, rtol=0.1)


def test_without_pot_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ot", None)
    with pytest.raises(CrossrecError, match=r"needs POT: pip install 'crossrec\[transport\]'"):
        GromovWasserstein()
