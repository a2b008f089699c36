import math

import pytest
import torch
from samples import samples

from crossrec.adaptation.base import DomainViews
from crossrec.adaptation.mmd import MMD
from crossrec.adaptation.numerics import median_square
from crossrec.errors import CrossrecError

ESTIMATORS = ["biased", "unbiased", "linear"]
KERNELS = ["linear", "gaussian"]


def test_two_points_by_hand():
    a, b = torch.zeros(2, 1, dtype=torch.float64), torch.full((2, 1), 2.0, dtype=torch.float64)
    value = MMD(bandwidth=1.0, bandwidths=(1.0,)).distance(a, b)
    assert value.item() == pytest.approx(2 - 2 * math.exp(-2))


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("estimator", ["unbiased", "linear"])
def test_unbiased_estimators_average_to_nothing_between_equal_distributions(kernel, estimator):
    loss = MMD(kernel=kernel, estimator=estimator, bandwidth=1.0)
    values = torch.stack([loss.distance(*samples(8, 8, 2, shift=0.0, seed=s)) for s in range(400)])
    assert abs(values.mean()) < 4 * values.std() / 20
    biased = torch.stack(
        [MMD(kernel=kernel, bandwidth=1.0).distance(*samples(8, 8, 2, shift=0.0, seed=s)) for s in range(50)]
    )
    assert biased.min() >= 0 and biased.mean() > 3 * biased.std() / 50**0.5


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_symmetry_and_shift_invariance(kernel, estimator):
    a, b = samples()
    loss = MMD(kernel=kernel, estimator=estimator)
    assert torch.allclose(loss.distance(a, b), loss.distance(b, a), atol=1e-12)
    assert torch.allclose(loss.distance(a, b), loss.distance(a + 100, b + 100), atol=1e-9)


@pytest.mark.parametrize("kernel", KERNELS)
def test_zero_at_identity_and_gradient_too(kernel):
    a, _ = samples()
    b = a.clone().requires_grad_()
    value = MMD(kernel=kernel).distance(a, b)
    value.backward()
    assert abs(value.item()) < 1e-12 and b.grad.abs().max() < 1e-12


def test_scaling_laws():
    a, b = samples()
    linear, gaussian = MMD(kernel="linear"), MMD()
    assert torch.allclose(linear.distance(3 * a, 3 * b), 9 * linear.distance(a, b))
    assert torch.allclose(gaussian.distance(3 * a, 3 * b), gaussian.distance(a, b))  # the median scales along
    total, mean = MMD(reduce="sum").distance(a, b), gaussian.distance(a, b)
    assert torch.allclose(total, 5 * mean)
    fixed = MMD(bandwidth=2.0).distance(2 * a, 2 * b)
    assert torch.allclose(fixed, MMD(bandwidth=1.0).distance(a, b))


def test_farther_apart_is_more():
    values = [MMD(bandwidth=1.0).distance(*samples(50, 50, shift=s)).item() for s in (0.0, 0.5, 1.0, 2.0)]
    assert values == sorted(values) and values[-1] > 5 * values[0]


def test_median_of_different_rows():
    points = torch.tensor([[0.0], [1.0], [3.0], [3.0]])
    squares = torch.cdist(points, points).square()
    assert median_square(squares).item() == 4.0  # of 0 1 4 4 9 9
    repeated = torch.tensor([[0.0]] * 8 + [[10.0]])
    floor = median_square(torch.cdist(repeated, repeated).square()).item()
    assert floor == pytest.approx(0.01 * 100 * 8 / 36)
    assert median_square(torch.zeros(4, 4)).item() > 0


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_one_hot_row_and_equal_rows_stay_finite(estimator):
    hot = torch.cat([torch.zeros(8, 2), torch.ones(1, 2)]).requires_grad_()
    for other in (torch.zeros(3, 2), torch.ones(3, 2)):
        for a in (hot, torch.zeros(4, 2, requires_grad=True)):
            value = MMD(estimator=estimator).distance(a, other)
            value.backward()
            assert torch.isfinite(value) and torch.isfinite(a.grad).all()


def test_large_samples_take_their_median_from_thinned_rows():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(3000, 4, generator=g)
    sigma = MMD()._sigma_squared(torch.cdist(x, x).square()).item()
    assert sigma == pytest.approx(torch.pdist(x).square().median().item(), rel=0.06)


def test_running_bandwidth_moves_in_training_only_and_is_saved():
    (a, b), (c, d) = samples(), samples(seed=1)
    loss = MMD(bandwidth="ema", momentum=0.75).double()
    pooled = torch.cat([a, b]), 4 * torch.cat([c, d])
    first, second = (MMD()._sigma_squared(torch.cdist(x, x).square()) for x in pooled)
    assert torch.allclose(loss.distance(a, b), MMD().distance(a, b)) and torch.allclose(loss.scale, first)
    loss.distance(4 * c, 4 * d)
    assert torch.allclose(loss.scale, 0.75 * first + 0.25 * second)
    loss.eval().distance(a, b)
    assert torch.allclose(loss.scale, 0.75 * first + 0.25 * second)
    copy = MMD(bandwidth="ema").double()
    copy.load_state_dict(loss.state_dict())
    assert torch.equal(copy.eval().distance(c, d), loss.distance(c, d))


def test_autocast_and_an_offset_do_not_hurt():
    g = torch.Generator().manual_seed(0)
    vectors = torch.cat([torch.randn(40, 8, generator=g), torch.randn(30, 8, generator=g) + 0.5]) + 1000
    views = {"users": DomainViews(vectors, torch.tensor([0] * 40 + [1] * 30), torch.arange(70))}
    exact = MMD().distance(vectors[:40].double(), vectors[40:].double()).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, _ = MMD()(views)
    assert value.item() == pytest.approx(exact, rel=1e-3) and value.dtype == torch.float32


def test_only_the_coordinate_that_differs_is_given_up():
    """A tower that may use a domain's giveaway stops using it once MMD is weighed in."""
    g = torch.Generator().manual_seed(0)
    signal = torch.randn(100, 1, generator=g).repeat_interleave(2, 0)  # the same in both domains
    domains = torch.arange(200) % 2
    giveaway = domains.float().unsqueeze(1) * 2 - 1 + 0.1 * torch.randn(200, 1, generator=g)
    x, y = torch.cat([signal, giveaway], 1), signal + 0.5 * giveaway
    left = {}
    for weight in (0.0, 20.0):
        map = torch.zeros(2, 1, requires_grad=True)
        optimizer = torch.optim.Adam([map], lr=0.05)
        for _ in range(300):
            vectors = x @ map
            loss = (vectors - y).square().mean()
            loss = loss + MMD(weight=weight)({"users": DomainViews(vectors, domains, torch.arange(200))})[0]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        left[weight] = map.detach().squeeze(1)
    assert left[0.0].tolist() == pytest.approx([1.0, 0.5], abs=0.02)
    assert abs(left[20.0][1]) < 0.1 and left[20.0][0] > 0.9


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"kernel": "laplace"}, "linear, gaussian"),
        ({"estimator": "u"}, "biased, unbiased, linear"),
        ({"reduce": "max"}, "mean, sum"),
        ({"bandwidth": "auto"}, "median, ema, or a number"),
        ({"bandwidth": 0.0}, "positive"),
        ({"bandwidth": float("nan")}, "positive"),
        ({"bandwidths": [1.0, float("inf")]}, "one or more positive"),
        ({"bandwidths": []}, "one or more positive"),
        ({"momentum": 1.0}, "below 1"),
    ],
)
def test_mistakes_are_told(options, named):
    with pytest.raises(CrossrecError, match=named):
        MMD(**options)
