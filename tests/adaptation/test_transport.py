"""What the transport losses have in common."""

import pytest
import torch
from samples import samples

from crossrec.adaptation.base import DomainViews
from crossrec.adaptation.gromov_wasserstein import GromovWasserstein
from crossrec.adaptation.sinkhorn import Sinkhorn
from crossrec.adaptation.sliced_wasserstein import SlicedWasserstein
from crossrec.errors import CrossrecError

pytest.importorskip("ot")


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


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        (SlicedWasserstein, {"p": 3}, "p=3 must be 1 or 2"),
        (SlicedWasserstein, {"n_projections": 0}, "n_projections=0 must be at least 1"),
        (SlicedWasserstein, {"seed": -1}, "seed=-1 must be at least 0"),
        (Sinkhorn, {"p": 0}, "p=0 must be 1 or 2"),
        (Sinkhorn, {"epsilon": 0.0}, "epsilon=0.0 must be more than 0"),
        (Sinkhorn, {"scaling": 1.0}, "scaling=1.0 must be from 0 to below 1"),
        (Sinkhorn, {"iterations": 0}, "iterations=0 must be at least 1"),
        (Sinkhorn, {"tolerance": 1.0}, "tolerance=1.0 must be from 0 to below 1"),
        (Sinkhorn, {"gradient": "none"}, "gradient='none' must be envelope or unrolled"),
        (GromovWasserstein, {"within": "cosine"}, "within='cosine' must be euclidean or squared_euclidean"),
        (GromovWasserstein, {"max_rows": 1}, "max_rows=1 must be at least 2"),
        (GromovWasserstein, {"iterations": 0}, "iterations=0 must be at least 1"),
        (GromovWasserstein, {"tolerance": -0.1}, "tolerance=-0.1 must be from 0 to below 1"),
    ],
)
def test_mistakes_are_told(kind, options, named):
    with pytest.raises(CrossrecError, match=named):
        kind(**options)
