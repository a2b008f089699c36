"""Sliced Wasserstein, Sinkhorn and Gromov-Wasserstein against closed forms and POT."""

import sys

import pytest
import torch

from crossrec.adaptation.base import DomainViews
from crossrec.adaptation.gromov_wasserstein import GromovWasserstein
from crossrec.adaptation.sinkhorn import Sinkhorn
from crossrec.adaptation.sliced_wasserstein import SlicedWasserstein, merged_levels
from crossrec.errors import CrossrecError

ot = pytest.importorskip("ot")


def samples(n=7, m=5, f=3, shift=0.5, seed=0):
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(n, f, generator=g, dtype=torch.float64)
    return a, torch.randn(m, f, generator=g, dtype=torch.float64) + shift


def rotation(f=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(f, f, generator=g, dtype=torch.float64)).Q


LOSSES = {
    "sliced_1": lambda: SlicedWasserstein(p=1, resample=False),
    "sliced_2": lambda: SlicedWasserstein(resample=False),
    "sliced_root": lambda: SlicedWasserstein(root=True, resample=False),
    "sinkhorn_1": lambda: Sinkhorn(p=1),
    "sinkhorn_2": lambda: Sinkhorn(p=2),
    "sinkhorn_unrolled": lambda: Sinkhorn(gradient="unrolled", iterations=20),
    "gromov": lambda: GromovWasserstein(),
    "gromov_squared": lambda: GromovWasserstein(within="squared_euclidean"),
}
losses = pytest.mark.parametrize("loss", [pytest.param(make, id=name) for name, make in LOSSES.items()])


@losses
def test_order_of_rows_does_not_matter(loss):
    a, b = samples()
    order = torch.randperm(7, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(loss().distance(a[order], b.flip(0)), loss().distance(a, b), atol=1e-9)


@losses
@pytest.mark.parametrize("m", [7, 5])
def test_symmetry_and_shift_invariance(loss, m):
    a, b = samples(m=m)
    value = loss().distance(a, b)
    assert value > 0.1
    assert torch.allclose(value, loss().distance(b, a), atol=1e-9)
    assert torch.allclose(value, loss().distance(a + 100, b + 100), atol=1e-9)


@losses
def test_zero_at_identity_and_gradient_too(loss):
    a, _ = samples()
    b = a.clone().requires_grad_()
    value = loss().distance(a, b)
    value.backward()
    assert abs(value.item()) < 1e-9 and b.grad.abs().max() < 1e-7
    assert abs(loss().distance(a, a.flip(0)).item()) < 1e-9


@losses
def test_degenerate_batches_are_finite(loss):
    rows = {
        "two": torch.randn(2, 3, generator=torch.Generator().manual_seed(0)),
        "equal": torch.ones(4, 3),
        "zero": torch.zeros(3, 3),
        "hot": torch.cat([torch.zeros(8, 3), torch.full((1, 3), 1e3)]),
    }
    for a in rows.values():
        for b in rows.values():
            x, y = a.clone().requires_grad_(), b.clone().requires_grad_()
            value = loss().distance(x, y)
            value.backward()
            unit = 1 + loss().distance(a, rows["zero"]) + loss().distance(b, rows["zero"])
            assert torch.isfinite(value) and value > -1e-5 * unit
            assert torch.isfinite(x.grad).all() and torch.isfinite(y.grad).all()


@losses
def test_global_random_state_is_untouched(loss):
    before = torch.random.get_rng_state()
    loss().distance(*samples())
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    "name", ["sliced_1", "sliced_2", "sliced_root", "sinkhorn_1", "sinkhorn_2", "sinkhorn_unrolled"]
)
def test_descent_on_the_loss_alone_brings_distributions_together(name):
    a, b = samples(20, 16, 2, shift=2.0)
    b = (0.5 * b).requires_grad_()
    module, optimizer = LOSSES[name](), torch.optim.Adam([b], lr=0.15)
    first = module.distance(a, b).item()
    for _ in range(50):
        optimizer.zero_grad()
        module.distance(a, b).backward()
        optimizer.step()
    assert module.distance(a, b).item() < 0.15 * first
    assert (b.mean(0) - a.mean(0)).norm() < 0.2 and (b.std(0) / a.std(0) - 1).abs().max() < 0.25


@losses
def test_half_precision_under_autocast_through_the_base(loss):
    a, b = samples(40, 30)
    vectors = torch.cat([a, b]).float().bfloat16()
    views = {"users": DomainViews(vectors, torch.tensor([0] * 40 + [1] * 30), torch.arange(70))}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, _ = loss()(views)
    exact = loss().distance(vectors[:40].double(), vectors[40:].double()).item()
    assert value.dtype == torch.float32 and value.item() == pytest.approx(exact, rel=2e-3)


# sliced Wasserstein


@pytest.mark.parametrize(("n", "m"), [(7, 5), (6, 6), (6, 4), (2, 9)])
@pytest.mark.parametrize("p", [1, 2])
def test_sliced_is_that_of_pot(n, m, p):
    a, b = samples(n, m)
    loss = SlicedWasserstein(p=p, root=True, n_projections=20, resample=False)
    expected = ot.sliced_wasserstein_distance(a, b, p=p, projections=loss._lines(a))
    assert torch.allclose(loss.distance(a, b), expected)
    power = SlicedWasserstein(p=p, n_projections=20, resample=False).distance(a, b)
    assert torch.allclose(power, expected**p)


def test_on_the_line_by_hand():
    a, b = torch.tensor([[0.0], [3.0]]), torch.tensor([[1.0], [1.0], [4.0]])  # thirds: 0 to 1; sixth: 0 to 1; ...
    assert SlicedWasserstein(p=1).distance(a, b).item() == pytest.approx(1 / 2 + 2 / 6 + 1 / 3)
    assert SlicedWasserstein(p=2).distance(a, b).item() == pytest.approx(1 / 2 + 4 / 6 + 1 / 3)


def test_merged_levels():
    of_n, of_m, widths = merged_levels(4, 6, torch.zeros(()))
    assert of_n.tolist() == [0, 0, 1, 1, 2, 2, 3, 3] and of_m.tolist() == [0, 1, 1, 2, 3, 4, 4, 5]
    assert widths.tolist() == pytest.approx([1 / 6, 1 / 12, 1 / 12, 1 / 6] * 2)
    steps = merged_levels(997, 1024, torch.zeros((), dtype=torch.float64))[2]
    assert len(steps) == 997 + 1024 - 1 and steps.sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("n", "m"), [(7, 5), (6, 6)])
@pytest.mark.parametrize("options", [{"p": 1}, {"p": 2}, {"p": 2, "root": True}])
def test_sliced_gradcheck(n, m, options):
    loss = SlicedWasserstein(n_projections=6, resample=False, **options)
    a, b = samples(n, m)
    assert torch.autograd.gradcheck(loss.distance, (a.requires_grad_(), b.requires_grad_()))


@pytest.mark.parametrize(("options", "power"), [({"p": 1}, 1), ({"p": 2}, 2), ({"p": 2, "root": True}, 1)])
def test_sliced_scales_with_its_power(options, power):
    a, b = samples()
    loss = SlicedWasserstein(resample=False, **options)
    assert torch.allclose(loss.distance(3 * a, 3 * b), 3**power * loss.distance(a, b))


def test_sliced_of_a_shift_is_its_squared_length_over_the_width():
    a, _ = samples(f=4)
    shift = torch.tensor([1.0, -2.0, 0.5, 0.0], dtype=torch.float64)
    value = SlicedWasserstein(n_projections=20000).distance(a, a + shift).item()
    assert value == pytest.approx(shift.square().sum().item() / 4, rel=0.03)  # E (theta . t)^2 = |t|^2 / f


def test_lines_change_in_training_only_and_resume():
    a, b = samples()
    loss, fixed = SlicedWasserstein(n_projections=4), SlicedWasserstein(n_projections=4, resample=False)
    values = [loss.distance(a, b).item() for _ in range(3)]
    assert len(set(values)) == 3 and values[0] == fixed.distance(a, b).item() == fixed.distance(a, b).item()
    assert loss.eval().distance(a, b).item() == values[0] and loss.draws.item() == 3 and fixed.draws.item() == 0
    resumed = SlicedWasserstein(n_projections=4)
    resumed.load_state_dict(loss.state_dict())
    assert resumed.distance(a, b).item() == loss.train().distance(a, b).item() not in values
    assert SlicedWasserstein(n_projections=4, seed=1).distance(a, b).item() not in values


# Sinkhorn divergence


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


# Gromov-Wasserstein


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


# options


@pytest.mark.parametrize(
    ("kind", "options"),
    [(SlicedWasserstein, o) for o in ({"p": 1}, {"root": True}, {"n_projections": 127}, {"seed": 1})]
    + [(Sinkhorn, o) for o in ({"p": 1}, {"epsilon": 0.2}, {"relative": False}, {"debiased": False})]
    + [(Sinkhorn, o) for o in ({"scaling": 0.9}, {"iterations": 9}, {"tolerance": 0.1}, {"gradient": "unrolled"})]
    + [(GromovWasserstein, o) for o in ({"within": "squared_euclidean"}, {"max_rows": 9}, {"iterations": 1})],
)
def test_every_argument_counts(kind, options):
    a, b = samples(20, 15)
    gradients = []
    for given in ({}, options):
        x = a.clone().requires_grad_()
        kind(**given).distance(x, b).backward()
        gradients.append(x.grad)
    assert (gradients[0] - gradients[1]).abs().max() > 1e-6


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        (SlicedWasserstein, {"p": 3}, "p=3 must be 1 or 2"),
        (SlicedWasserstein, {"n_projections": 0}, "n_projections=0 must be 1 or more"),
        (SlicedWasserstein, {"seed": -1}, "seed=-1 must be 0 or more"),
        (Sinkhorn, {"p": 0}, "p=0 must be 1 or 2"),
        (Sinkhorn, {"epsilon": 0.0}, "epsilon=0.0 must be positive"),
        (Sinkhorn, {"scaling": 1.0}, "scaling=1.0 must be from 0 to below 1"),
        (Sinkhorn, {"iterations": 0}, "iterations=0 must be 1 or more"),
        (Sinkhorn, {"tolerance": 1.0}, "tolerance=1.0 must be from 0 to below 1"),
        (Sinkhorn, {"gradient": "none"}, "gradient='none' must be envelope or unrolled"),
        (GromovWasserstein, {"within": "cosine"}, "within='cosine' must be euclidean or squared_euclidean"),
        (GromovWasserstein, {"max_rows": 1}, "max_rows=1 must be 2 or more"),
        (GromovWasserstein, {"iterations": 0}, "iterations=0 must be 1 or more"),
        (GromovWasserstein, {"tolerance": -0.1}, "tolerance=-0.1 must be from 0 to below 1"),
    ],
)
def test_mistakes_are_told(kind, options, named):
    with pytest.raises(CrossrecError, match=named):
        kind(**options)


@pytest.mark.parametrize("option", ["sliced_wasserstein", "sinkhorn", "gromov_wasserstein"])
def test_configs_name_every_option(option):
    import inspect

    from hydra import compose, initialize_config_dir
    from hydra.utils import get_class
    from omegaconf import OmegaConf

    from crossrec.adaptation.base import Adaptation, PairwiseAdaptation
    from crossrec.config import build, conf_dir

    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        node = OmegaConf.to_container(compose(f"adaptation/{option}"))["adaptation"][option]
    kinds = (get_class(node["_target_"]), PairwiseAdaptation, Adaptation)
    takes = {name: p.default for kind in kinds for name, p in inspect.signature(kind.__init__).parameters.items()}
    assert set(node) - {"_target_"} == set(takes) - {"self", "options"} | {"pairs"}
    own = inspect.signature(kinds[0].__init__).parameters
    assert all(node[name] == own[name].default for name in own if name in node)
    assert isinstance(build(node), Adaptation)
