import numpy as np
import pytest
import torch

from crossrec.adaptation.base import DomainViews
from crossrec.adaptation.cmd import CMD
from crossrec.adaptation.coral import Coral
from crossrec.adaptation.frechet import Frechet
from crossrec.errors import CrossrecError

BOUNDS = (-3.0, 5.0)
LOSSES = {
    "coral": Coral(),
    "coral and means": Coral(mean=True),
    "cmd": CMD(),
    "cmd of sigmoid": CMD(squash="sigmoid", moments=3),
    "cmd as is": CMD(squash="none", interval=BOUNDS),
    "frechet": Frechet(),
    "frechet without means": Frechet(mean=False),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


def samples(n=9, m=7, f=3, shift=0.5, scale=1.5, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(f, f, generator=g, dtype=torch.float64)
    a = torch.randn(n, f, generator=g, dtype=torch.float64)
    return a.to(dtype), (scale * torch.randn(m, f, generator=g, dtype=torch.float64) @ mix + shift).to(dtype)


def gradients(loss, a, b):
    a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
    value = loss.distance(a, b)
    return (value.detach(), *torch.autograd.grad(value, (a, b)))


def centred(x):
    return x - x.mean(0)


@pytest.mark.parametrize("shape", [(9, 7, 3), (4, 6, 8), (2, 9, 3), (40, 30, 30)])
def test_frechet_of_any_rank_is_that_of_pot_and_of_roots(shape):
    a, b = samples(*shape)
    value = Frechet().distance(a, b).item()

    def root(matrix):
        values, vectors = np.linalg.eigh(matrix)
        return (vectors * np.sqrt(values.clip(0))) @ vectors.T

    (mean_a, cov_a), (mean_b, cov_b) = ((x.mean(0).numpy(), np.cov(x.numpy().T)) for x in (a, b))
    # a sum of singular values: the eigenvalues of a product of rank r would be roots of rounding
    expected = ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b)
    expected -= 2 * np.linalg.svd(root(cov_a) @ root(cov_b), compute_uv=False).sum()
    assert value == pytest.approx(expected, rel=1e-6)
    ot = pytest.importorskip("ot", reason="pip install 'crossrec[transport]'")
    if shape == (9, 7, 3):  # of a singular matrix its roots are NaN
        distance = ot.gaussian.bures_wasserstein_distance(mean_a, mean_b, cov_a, cov_b)
        assert value == pytest.approx(distance**2, rel=1e-8)


def test_frechet_by_hand():
    a, _ = samples()
    trace = np.trace(np.cov(a.numpy().T))
    assert Frechet().distance(a, a + 2).item() == pytest.approx(3 * 2**2)
    assert Frechet().distance(a, 3 * centred(a) + a.mean(0)).item() == pytest.approx((3 - 1) ** 2 * trace)
    assert Frechet(mean=False).distance(a, torch.ones(5, 3).double()).item() == pytest.approx(trace)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_frechet_has_no_pull_along_directions_that_one_domain_lacks(dtype):
    g = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(40, 40, generator=g, dtype=torch.float64)).Q
    a = (torch.randn(50, 15, generator=g, dtype=torch.float64) @ turn[:15]).to(dtype)
    b = (torch.randn(60, 20, generator=g, dtype=torch.float64) @ turn[15:35]).to(dtype)
    value, grad_a, grad_b = gradients(Frechet(mean=False), a, b)
    tolerance = 30 * torch.finfo(dtype).eps
    assert torch.allclose(value, a.var(0).sum() + b.var(0).sum(), rtol=tolerance)
    assert torch.allclose(grad_a, 2 * centred(a) / 49, atol=tolerance)
    assert torch.allclose(grad_b, 2 * centred(b) / 59, atol=tolerance)


@every_loss
@pytest.mark.parametrize("shape", [(9, 7, 3), (4, 6, 8), (2, 3, 2)])
def test_gradcheck(loss, shape):
    a, b = samples(*shape)
    assert torch.autograd.gradcheck(loss.distance, (a.requires_grad_(), b.requires_grad_()))


@every_loss
def test_symmetry_and_order_of_rows(loss):
    a, b = samples()
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(loss.distance(a, b), loss.distance(b, a), atol=1e-12)
    assert torch.allclose(loss.distance(a[order], b.flip(0)), loss.distance(a, b), atol=1e-12)


@every_loss
@pytest.mark.parametrize("shape", [(9, 7, 3), (4, 6, 8), (2, 2, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_at_identity_and_gradient_too(loss, shape, dtype):
    a, _ = samples(*shape, dtype=dtype)
    value, *grads = gradients(loss, a, a)
    assert 0 <= value <= 1e-6 and max(g.abs().max() for g in grads) <= 1e-5
    assert loss.distance(*samples(*shape, dtype=dtype)) > 1e-3


@every_loss
def test_a_shift_of_both_and_fp32_far_from_the_origin(loss):
    a, b = samples()
    if getattr(loss, "squash", "none") == "none":  # a squash is not linear
        assert torch.allclose(loss.distance(a + 100, b + 100), loss.distance(a, b), atol=1e-10)
        # shifts that fp32 rows hold exactly
        a, b = (x.mul(64).round().div(64) for x in (a, b))
        value = loss.distance((a + 1024).float(), (b + 1024).float())
        assert value.item() == pytest.approx(loss.distance(a, b).item(), rel=1e-5)


def test_scaling_laws():
    a, b = samples()
    assert torch.allclose(Coral().distance(3 * a, 3 * b), 3**4 * Coral().distance(a, b))
    means = [Coral(mean=True).distance(c * a, c * b) - Coral().distance(c * a, c * b) for c in (1, 3)]
    assert torch.allclose(means[1], 9 * means[0])
    narrow, wide = (CMD(squash="none", interval=(-c, c)) for c in (1, 3))
    assert torch.allclose(wide.distance(3 * a, 3 * b), narrow.distance(a, b))
    assert torch.allclose(Frechet().distance(3 * a, 3 * b), 9 * Frechet().distance(a, b))
    first = CMD(squash="none", interval=BOUNDS, moments=1)
    assert torch.allclose(first.distance(3 * a, 3 * b), 3 * first.distance(a, b))


def test_what_each_loss_feels():
    a, _ = samples(60)
    shifted, stretched = a + 1.0, centred(a) * 2 + a.mean(0)
    cubed = CMD(moments=2, squash="none", interval=BOUNDS), CMD(moments=3, squash="none", interval=BOUNDS)
    assert Coral().distance(a, shifted) < 1e-12 < Coral().distance(a, stretched)
    assert Coral(mean=True).distance(a, shifted).item() == pytest.approx(1.0)
    assert cubed[0].distance(a, 2 * a.mean(0) - a) < 1e-12 < cubed[1].distance(a, 2 * a.mean(0) - a)  # skewness
    assert CMD(moments=1, squash="none", interval=BOUNDS).distance(a, stretched) < 1e-12
    turned = torch.cat([a[:, :1], a[:, :1], a[:, 2:]], 1), torch.cat([a[:, :1], a[:, :1].flip(0), a[:, 2:]], 1)
    assert CMD().distance(*turned) < 1e-12 < Coral().distance(*turned)  # the same marginals


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "sides",
    [
        (torch.zeros(2, 3), torch.zeros(4, 3)),
        (torch.ones(3, 3), torch.eye(3)),
        (torch.tensor([[0.0, 1.0, 0.0]] * 5 + [[9.0, 1.0, 0.0]]), torch.full((2, 3), -4.0)),
        (torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]), torch.tensor([[0.0, 2.0, 0.0], [0.0, -2.0, 0.0]])),
        (torch.full((2, 3), 1e-20), torch.eye(3)[:2] * 1e-20),
        (torch.eye(3) * 1e4, torch.ones(7, 3) * 1e4),
    ],
    ids=["zero", "equal rows", "constant coordinates", "orthogonal", "tiny", "large"],
)
def test_degenerate_batches_stay_finite(loss, sides, dtype):
    value, *grads = gradients(loss, *(x.to(dtype) for x in sides))
    assert torch.isfinite(value) and value >= 0 and all(torch.isfinite(g).all() for g in grads)


@every_loss
def test_descent_brings_two_domains_together(loss):
    a, b = samples(80, 60, 4, shift=0.4, scale=0.4, dtype=torch.float32)
    start, vectors = loss.distance(a, b).item(), a.clone().requires_grad_()
    optimizer = torch.optim.Adam([vectors], lr=0.03)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, 400)
    for _ in range(400):
        optimizer.zero_grad()
        loss.distance(vectors, b).backward()
        optimizer.step()
        schedule.step()
    assert loss.distance(vectors, b).item() < 0.02 * start
    seen = getattr(loss, "_squashed", lambda x: x)  # a squash hides the tails
    spread, at_start = ((seen(x.detach()).var(0) - seen(b).var(0)).abs().max() for x in (vectors, a))
    assert spread < 0.1 * at_start
    if loss not in (LOSSES["coral"], LOSSES["frechet without means"]):
        assert (vectors.mean(0) - b.mean(0)).abs().max() < 0.05


@every_loss
def test_in_a_batch_of_three_domains_and_with_the_global_random_state_untouched(loss):
    g = torch.Generator().manual_seed(0)
    vectors = torch.randn(30, 4, generator=g).requires_grad_()
    views = {"users": DomainViews(vectors, torch.arange(30) % 3, torch.arange(30))}
    before = torch.random.get_rng_state()
    total, entries = loss(views)
    total.backward()
    pairs = [loss.distance(vectors[i::3], vectors[j::3]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert torch.allclose(total, sum(pairs) / 3) and len(entries) == 3 and torch.isfinite(vectors.grad).all()
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        (Coral, {"mean": "yes"}, r"adaptation.coral.mean='yes' must be true or false"),
        (Frechet, {"mean": 1}, r"adaptation.frechet.mean=1 must be true or false"),
        (CMD, {"moments": 0}, r"adaptation.cmd.moments=0 must be a whole number of at least 1"),
        (CMD, {"moments": 2.5}, "whole number"),
        (CMD, {"squash": "relu"}, r"adaptation.cmd.squash='relu' must be sigmoid, tanh or none"),
        (CMD, {"squash": "none"}, r"adaptation.cmd.interval=None must be \[lower, upper\]"),
        (CMD, {"squash": "none", "interval": (1, 1)}, "lower < upper"),
        (CMD, {"squash": "none", "interval": (1, 2, 3)}, "lower, upper"),
        (CMD, {"squash": "none", "interval": (0, float("inf"))}, "lower < upper"),
        (CMD, {"interval": (0, 1)}, "must be null with squash=tanh"),
    ],
)
def test_mistakes_are_told(kind, options, named):
    with pytest.raises(CrossrecError, match=named):
        kind(**options)
