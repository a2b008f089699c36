import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from crossrec.adaptation.base import DomainViews
from crossrec.adaptation.club import CLUB
from crossrec.adaptation.difference import Difference
from crossrec.adaptation.simse import SIMSE
from crossrec.adaptation.vib import VIB
from crossrec.errors import CrossrecError

F = 3
LOSSES = {
    "raw": lambda: Difference(kind="raw"),
    "centred": lambda: Difference(kind="centred"),
    "normalised": lambda: Difference(),
    "simse": lambda: SIMSE(),
    "mse": lambda: SIMSE(error="mse"),
    "vib": lambda: VIB(),
    "club": lambda: club(),
}
every_loss = pytest.mark.parametrize("name", list(LOSSES))


def club(n_domains=2, **options):
    """A bound whose q is not at its first values, where it does not look at the shared part."""
    loss = CLUB(**{"dim": F, "hidden": 4, **options})
    loss.prepare(n_domains)
    g = torch.Generator().manual_seed(5)
    for q in loss.conditionals:
        q[2].weight.data = torch.randn(q[2].weight.shape, generator=g)
    return loss


def rows(n=7, seed=0, f=F, dtype=torch.float64):
    return torch.randn(n, f, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def view(first, second, names, domain=0):
    n = len(first)
    layers = dict(zip(names, (first, second)))
    return DomainViews(torch.zeros(n, F), torch.full((n,), domain), torch.arange(n), layers=layers)


def value(loss, first, second, domain=0):
    return loss.single(view(first, second, loss.needs, domain))


def gradients(loss, first, second):
    first, second = first.clone().requires_grad_(), second.clone().requires_grad_()
    made = value(loss, first, second)
    return (made.detach(), *torch.autograd.grad(made, (first, second), allow_unused=True))


def test_difference_is_zero_where_it_says_and_scales_as_it_says():
    basis = torch.linalg.qr(torch.cat([torch.ones(8, 1).double(), rows(8, f=6)], 1)).Q
    apart = basis[:, 1:4], basis[:, 4:7]  # orthogonal, and to the ones: uncorrelated
    s, p = rows(8), rows(8, seed=1)
    for kind, factor in (("raw", 36), ("centred", 36), ("normalised", 1)):
        loss = Difference(kind=kind)
        assert value(loss, 2 * s, -3 * p).item() == pytest.approx(factor * value(loss, s, p).item())
        shifted = value(loss, s + 5, p - 2).item() == pytest.approx(value(loss, s, p).item())
        assert shifted == (kind != "raw")
        twice = value(loss, s.repeat(2, 1), p.repeat(2, 1)).item() / value(loss, s, p).item()
        assert twice == pytest.approx({"raw": 4, "centred": (14 / 15) ** 2, "normalised": 1}[kind])
        if kind != "normalised":
            assert value(loss, *apart) < 1e-24 < value(loss, s, p)
    line = torch.tensor([[1.0, 2.0, 0.0]]).double()
    places = rows(8, f=1)
    assert value(Difference(), places * line, -3 * places * line.flip(1)).item() == pytest.approx(1)  # one tells all
    corners = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [1, 0, 0], [-1, 0, 0]]).double()
    assert value(Difference(), corners, corners[[0, 0, 1, 1]]).item() == 0  # signs that are independent


@pytest.mark.parametrize("error", ["simse", "mse"])
def test_simse_is_its_formula_and_gradient_and_the_input_is_held(error):
    x, y = rows(), rows(seed=1)
    made, to_x, to_y = gradients(SIMSE(error=error), x, y)
    e = (x - y).numpy()
    mean = e.mean(1, keepdims=True) * (error == "simse")
    assert made.item() == pytest.approx(((e**2).sum(1) / F - (error == "simse") * e.sum(1) ** 2 / F**2).mean())
    assert to_x is None and np.allclose(to_y, -2 * (e - mean) / (F * 7))
    constant = torch.arange(7.0).double().unsqueeze(1)
    assert value(SIMSE(error=error), x, x) == 0
    assert (value(SIMSE(error=error), x + constant, x) < 1e-24) == (error == "simse")
    assert value(SIMSE(error=error), 3 * x, 3 * y).item() == pytest.approx(9 * made.item())


def test_vib_is_the_divergence_of_torch_and_its_gradient():
    m, v = rows(), rows(seed=1)
    made, to_m, to_v = gradients(VIB(), m, v)
    truth = kl_divergence(Normal(m, (0.5 * v).exp()), Normal(torch.zeros(()).double(), torch.ones(()).double()))
    assert made.item() == pytest.approx(truth.sum(1).mean().item())
    assert torch.allclose(to_m, m / 7) and torch.allclose(to_v, 0.5 * v.expm1() / 7)
    assert value(VIB(), 0 * m, 0 * v) == 0 and (made > 0).all()
    small = 1e-4 * v.float()  # v^2 / 4: fp32 holds none of it without care
    assert value(VIB(), 0 * small, small).item() == pytest.approx(small.square().sum(1).mean().item() / 4, rel=1e-2)


def test_club_is_the_mean_over_all_pairs_and_moves_the_vectors_and_q_apart():
    loss = club().double()
    s, p = rows(), rows(seed=1)
    s, p = ((x - x.mean(0)) / (x - x.mean(0)).square().mean().sqrt() for x in (s, p))
    q = loss.conditionals[1]
    mean, free = q(s).chunk(2, 1)
    normal = Normal(mean.unsqueeze(1), (2.5 * torch.tanh(free / 5)).exp().unsqueeze(1))
    logs = normal.log_prob(p.unsqueeze(0)).sum(2)  # row i, j: log q(p_j | s_i)
    expected = logs.diagonal().mean() - logs.mean()
    s, p = s.detach().requires_grad_(), p.detach().requires_grad_()
    made = value(loss, s, p, domain=1)
    assert made.item() == pytest.approx(expected.item(), abs=1e-12)
    assert loss._more["log_likelihood/1"].item() == pytest.approx(logs.diagonal().mean().item())
    made.backward()
    wanted = torch.autograd.grad(-logs.diagonal().mean(), list(q.parameters()))
    assert all(torch.allclose(p.grad, w) for p, w in zip(q.parameters(), wanted))
    assert all(p.grad is None for p in loss.conditionals[0].parameters())
    assert s.grad.abs().max() > 1e-3 and p.grad.abs().max() > 1e-3


def test_club_of_a_shift_or_scale_is_the_same():
    loss, s, p = club().double(), rows(), rows(seed=1)
    assert torch.allclose(value(loss, 1e-3 * s + 7, 40 * p - 3), value(loss, s, p), atol=1e-9)
    assert not torch.allclose(value(loss, s, p), value(loss, s, p, domain=1))


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6])
def test_a_trained_club_bounds_the_information_of_gaussians(rho):
    g = torch.Generator().manual_seed(0)
    s = torch.randn(4000, 2, generator=g)
    p = rho * s + math.sqrt(1 - rho**2) * torch.randn(4000, 2, generator=g)
    loss = CLUB(dim=2, hidden=16)
    loss.prepare(1)
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.01)
    for step in range(400):
        optimizer.zero_grad()
        batch = slice(250 * (step % 16), 250 * (step % 16 + 1))
        value(loss, s[batch], p[batch]).backward()
        optimizer.step()
    made = value(loss, s, p).item()
    information, bound = -math.log(1 - rho**2), 2 * rho**2 / (1 - rho**2)  # of two coordinates
    assert made >= information - 0.01 and made == pytest.approx(bound, rel=0.12, abs=0.02)


def batch(loss, first, second, sizes):
    domains = torch.cat([torch.full((n,), d) for d, n in enumerate(sizes)])
    layers = dict(zip(loss.needs, (first, second)))
    return {"users": DomainViews(torch.zeros(len(domains), F), domains, torch.arange(len(domains)), layers=layers)}


@every_loss
@pytest.mark.parametrize("sizes", [(2, 5), (1, 3), (0, 2), (1, 1)])
@pytest.mark.parametrize("kind", ["random", "equal", "zero", "huge", "tiny"])
def test_degenerate_batches_are_finite(name, sizes, kind):
    n, loss = sum(sizes), LOSSES[name]()
    pair = [rows(n, seed, dtype=torch.float32) for seed in (0, 1)]
    scaled = {"equal": lambda x: x[:1].expand(n, -1), "zero": lambda x: 0 * x, "tiny": lambda x: 1e-12 * x}
    change = scaled.get(kind, lambda x: (20 if name == "vib" else 1e4) * x if kind == "huge" else x)
    first, second = (change(x).clone().requires_grad_() for x in pair)
    total, entries = loss(batch(loss, first, second, sizes))
    if total.requires_grad:
        total.backward()
    assert torch.isfinite(total)
    for x in (first, second, *loss.parameters()):
        assert x.grad is None or torch.isfinite(x.grad).all()
    parts = [v for k, v in entries.items() if "log_likelihood" not in k]
    assert len(parts) == sum(s >= loss.min_rows for s in sizes)
    if not parts:
        assert total == 0


@every_loss
def test_total_is_the_mean_over_domains_and_the_global_random_state_is_untouched(name):
    before = torch.random.get_rng_state()
    loss, a, b = LOSSES[name](), rows(9, dtype=torch.float32), rows(9, 1, dtype=torch.float32)
    total, entries = loss(batch(loss, a, b, (4, 5)))
    each = [value(loss, a[:4], b[:4]), value(loss, a[4:], b[4:], domain=1)]
    assert torch.allclose(total, sum(each) / 2)
    assert entries[f"adaptation/{loss.name}/1"].item() == pytest.approx(each[1].item())
    assert torch.equal(before, torch.random.get_rng_state())


@every_loss
def test_a_layer_that_is_not_shown_is_named(name):
    loss = LOSSES[name]()
    views = {
        "users": DomainViews(rows(), torch.zeros(7, dtype=torch.long), torch.arange(7), layers={"partner": rows()})
    }
    with pytest.raises(CrossrecError, match=f"adaptation.{loss.name} reads {loss.needs[0]!r}.*only shows partner"):
        loss(views)


@pytest.mark.parametrize("kind", ["raw", "centred", "normalised", "club"])
def test_descent_parts_what_starts_dependent(kind):
    p = rows(200, 1, dtype=torch.float32)
    s = (p + 0.5 * rows(200, dtype=torch.float32)).requires_grad_()
    loss = club(dim=F, hidden=8) if kind == "club" else Difference(kind=kind)

    def correlation():
        return np.abs(np.corrcoef(s.detach().T, p.T)[:F, F:]).max()

    before, optimizer = correlation(), torch.optim.Adam([s, *loss.parameters()], lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        value(loss, s, p).backward()
        optimizer.step()
    assert before > 0.8 and correlation() < 0.4 and s.std() > 0.1


def test_descent_reconstructs_and_a_bottleneck_forgets():
    x, y = rows(20, dtype=torch.float32), rows(20, 1, dtype=torch.float32).requires_grad_()
    m, v = rows(20, dtype=torch.float32).requires_grad_(), rows(20, 1, dtype=torch.float32).requires_grad_()
    optimizer = torch.optim.Adam([y, m, v], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        (value(SIMSE(), x, y) + value(VIB(), m, v)).backward()
        optimizer.step()
    assert (x - y).detach().std(1).max() < 0.05 and (x - y).detach().mean(1).abs().max() > 0.5
    assert m.abs().max() < 0.01 and v.abs().max() < 0.05


def test_options_of_club_have_an_effect_and_q_is_saved():
    def trained(**options):
        loss = CLUB(**{"dim": F, "hidden": 4, "seed": 1, **options}).double()
        loss.prepare(2)
        optimizer = torch.optim.SGD(loss.double().parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            value(loss, rows(), rows(seed=1)).backward()
            optimizer.step()
        return loss

    first, values = trained(), [trained(**more) for more in ({}, {"hidden": 5}, {"seed": 2})]
    made = [value(loss, rows(), rows(seed=1)).item() for loss in (first, *values)]
    assert made[0] == made[1] and len(set(made)) == 3
    unnamed = CLUB(dim=2)
    unnamed.prepare(3)
    assert [tuple(p.shape) for p in unnamed.parameters()] == [(4, 2), (4,), (4, 4), (4,)] * 3
    values[2].load_state_dict(first.state_dict())
    assert value(values[2], rows(), rows(seed=1)).item() == made[0]
    assert not torch.equal(first.conditionals[0][0].weight, first.conditionals[1][0].weight)


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        (Difference, {"kind": "cosine"}, "adaptation.difference.kind='cosine' must be raw, centred or normalised"),
        (SIMSE, {"error": "mae", "name": "x"}, "adaptation.x.error='mae' must be simse or mse"),
        (CLUB, {"dim": 0}, "adaptation.club.dim=0 must be at least 1"),
        (CLUB, {"dim": 2, "hidden": 0}, "hidden=0 must be at least 1"),
        (VIB, {"space": "rows"}, "users, items or both"),
    ],
)
def test_mistakes_are_told(kind, options, told):
    with pytest.raises(CrossrecError, match=told):
        kind(**options)


def test_a_wrong_width_is_told():
    with pytest.raises(CrossrecError, match="dim=5 must be 3, the vectors' width"):
        value(club(dim=5), rows(), rows(seed=1))
