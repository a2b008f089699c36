import math

import pytest
import torch

from crossrec.adaptation.base import DomainViews
from crossrec.adaptation.mmd import MMD
from crossrec.adaptation.numerics import median_square
from crossrec.errors import CrossrecError

ESTIMATORS = ["biased", "unbiased", "linear"]
KERNELS = ["linear", "gaussian"]


def samples(n=7, m=5, f=3, shift=0.5, seed=0):
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(n, f, generator=g, dtype=torch.float64)
    return a, torch.randn(m, f, generator=g, dtype=torch.float64) + shift


def by_definition(a, b, sigma, multiples, estimator):
    """MMD^2 written out pair by pair."""

    def k(x, y):
        square = float(((x - y) ** 2).sum())
        return sum(math.exp(-square / (2 * c * sigma**2)) for c in multiples) / len(multiples)

    if estimator == "linear":
        n = min(len(a), len(b)) // 2
        terms = [
            k(a[2 * i], a[2 * i + 1])
            + k(b[2 * i], b[2 * i + 1])
            - k(a[2 * i], b[2 * i + 1])
            - k(a[2 * i + 1], b[2 * i])
            for i in range(n)
        ]
        return sum(terms) / n

    def within(x):
        pairs = [(i, j) for i in range(len(x)) for j in range(len(x)) if estimator == "biased" or i != j]
        return sum(k(x[i], x[j]) for i, j in pairs) / len(pairs)

    return within(a) + within(b) - 2 * sum(k(x, y) for x in a for y in b) / (len(a) * len(b))


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("multiples", [(1.0,), (0.25, 0.5, 1.0, 2.0, 4.0), (3.0, 0.7)])
def test_gaussian_is_its_definition(estimator, multiples):
    a, b = samples()
    value = MMD(bandwidth=1.3, bandwidths=multiples, estimator=estimator).distance(a, b)
    assert value.item() == pytest.approx(by_definition(a, b, 1.3, multiples, estimator), abs=1e-12)


def test_two_points_by_hand():
    a, b = torch.zeros(2, 1, dtype=torch.float64), torch.full((2, 1), 2.0, dtype=torch.float64)
    value = MMD(bandwidth=1.0, bandwidths=(1.0,)).distance(a, b)
    assert value.item() == pytest.approx(2 - 2 * math.exp(-2))


def test_linear_kernel_is_the_squared_distance_of_the_means():
    a, b = samples()
    gap = (a.mean(0) - b.mean(0)).square().sum()
    assert torch.allclose(MMD(kernel="linear").distance(a, b), gap)
    unbiased = MMD(kernel="linear", estimator="unbiased").distance(a, b)
    inner_a, inner_b = a @ a.T, b @ b.T
    expected = (inner_a.sum() - inner_a.trace()) / 42 + (inner_b.sum() - inner_b.trace()) / 20 - 2 * (a @ b.T).mean()
    assert torch.allclose(unbiased, expected)
    in_pairs = MMD(kernel="linear", estimator="linear").distance(a, b)
    assert torch.allclose(in_pairs, ((a[0:4:2] - b[0:4:2]) * (a[1:4:2] - b[1:4:2])).sum(1).mean())


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
@pytest.mark.parametrize("bandwidth", [1.3, "median"])
def test_gradcheck(kernel, estimator, bandwidth):
    if bandwidth == "median":  # has no gradient by design: hold it while the inputs are perturbed
        loss = MMD(kernel=kernel, estimator=estimator)
        held = median_square(squared(*samples()))
        loss._sigma_squared = lambda squares: held
    else:
        loss = MMD(kernel=kernel, estimator=estimator, bandwidth=bandwidth, reduce="sum")
    a, b = samples()
    assert torch.autograd.gradcheck(loss.distance, (a.requires_grad_(), b.requires_grad_()))


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


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
def test_order_of_rows_does_not_matter(kernel, estimator):
    a, b = samples()
    loss = MMD(kernel=kernel, estimator=estimator)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(loss.distance(a[order], b.flip(0)), loss.distance(a, b), atol=1e-12)


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
    first, second = (MMD()._sigma_squared(squared(x, y)) for x, y in ((a, b), (4 * c, 4 * d)))
    assert torch.allclose(loss.distance(a, b), MMD().distance(a, b)) and torch.allclose(loss.scale, first)
    loss.distance(4 * c, 4 * d)
    assert torch.allclose(loss.scale, 0.75 * first + 0.25 * second)
    loss.eval().distance(a, b)
    assert torch.allclose(loss.scale, 0.75 * first + 0.25 * second)
    copy = MMD(bandwidth="ema").double()
    copy.load_state_dict(loss.state_dict())
    assert torch.equal(copy.eval().distance(c, d), loss.distance(c, d))


def squared(a, b):
    pooled = torch.cat([a, b])
    return torch.cdist(pooled, pooled).square()


def test_autocast_and_an_offset_do_not_hurt():
    g = torch.Generator().manual_seed(0)
    vectors = torch.cat([torch.randn(40, 8, generator=g), torch.randn(30, 8, generator=g) + 0.5]) + 1000
    views = {"users": DomainViews(vectors, torch.tensor([0] * 40 + [1] * 30), torch.arange(70))}
    exact = MMD().distance(vectors[:40].double(), vectors[40:].double()).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, _ = MMD()(views)
    assert value.item() == pytest.approx(exact, rel=1e-3) and value.dtype == torch.float32


def test_repeated_ids_count_once():
    a, b = samples()
    vectors = torch.cat([a, b, a[:1].expand(9, -1)])
    ids = torch.cat([torch.arange(12), torch.zeros(9, dtype=torch.long)])
    domains = torch.cat([torch.zeros(7), torch.ones(5), torch.zeros(9)]).long()
    total, _ = MMD()({"users": DomainViews(vectors, domains, ids)})
    assert torch.allclose(total, MMD().distance(a, b))


def test_global_random_state_is_untouched():
    before = torch.random.get_rng_state()
    for estimator in ESTIMATORS:
        MMD(estimator=estimator, bandwidth="ema").double().distance(*samples())
    assert torch.equal(before, torch.random.get_rng_state())


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
        ({"bandwidths": []}, "one or more positive"),
        ({"momentum": 1.0}, "below 1"),
        ({"bandwidth": "ema", "space": "both"}, "one scale"),
    ],
)
def test_mistakes_are_told(options, named):
    with pytest.raises(CrossrecError, match=named):
        MMD(**options)


@pytest.mark.parametrize("option", ["mmd", "function"])
def test_configs_name_every_option(option):
    import inspect

    from hydra import compose, initialize_config_dir
    from hydra.utils import get_class
    from omegaconf import OmegaConf

    from crossrec.adaptation.base import Adaptation, PairwiseAdaptation
    from crossrec.config import build, conf_dir

    overrides = ["adaptation.function.function=torch.dist"] if option == "function" else []
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        node = OmegaConf.to_container(compose(f"adaptation/{option}", overrides=overrides))["adaptation"][option]
    kinds = (get_class(node["_target_"]), PairwiseAdaptation, Adaptation)
    takes = {name for kind in kinds for name in inspect.signature(kind.__init__).parameters} | {"pairs"}
    assert set(node) - {"_target_"} == takes - {"self", "options"}
    assert isinstance(build(node), Adaptation)
