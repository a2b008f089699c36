import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

from crossrec.adaptation.base import DomainViews
from crossrec.adaptation.joint_mmd import JointMMD
from crossrec.adaptation.mcc import MinimumClassConfusion
from crossrec.adaptation.mmd import MMD
from crossrec.adaptation.prediction_entropy import PredictionEntropy
from crossrec.errors import CrossrecError

PREDICTED = {"mcc": MinimumClassConfusion, "prediction_entropy": PredictionEntropy}
every_predicted = pytest.mark.parametrize("name", list(PREDICTED))
every_estimator = pytest.mark.parametrize("estimator", ["biased", "unbiased"])


def samples(n=7, m=5, f=3, seed=0, shift=0.5):
    """Vectors and partners of two domains: x (n, f), y (n, f) and x (m, f), y (m, f)."""
    g = torch.Generator().manual_seed(seed)
    a = [torch.randn(n, f, generator=g, dtype=torch.float64) for _ in range(2)]
    return a, [torch.randn(m, f, generator=g, dtype=torch.float64) + shift for _ in range(2)]


def joint(loss, a, b):
    return loss.joint(list(zip(a, b)))


def domain_view(x, partner, domain=0):
    domains = torch.full((len(x),), domain)
    return DomainViews(x, domains, torch.arange(len(x)), layers={"partner": partner})


@every_predicted
@pytest.mark.parametrize(("rows", "left"), [("overlap", [0, 1]), ("non_overlap", [2, 3])])
def test_rows_of_the_target_are_known_in_two_domains_before_the_others_go(name, rows, left):
    (x, partner), _ = samples(n=7)
    ids = torch.tensor([8, 5, 6, 5, 6, 7, 9])  # 5 and 6 are in both domains
    view = DomainViews(x, torch.tensor([0, 0, 0, 1, 1, 1, 1]), ids, layers={"partner": partner})
    _, entries = PREDICTED[name](rows=rows)({"users": view}, target=1)
    target = view.of(1).take(torch.tensor(left))
    assert entries[f"adaptation/{PREDICTED[name].__name__.lower()}/1"] == PREDICTED[name]().single(target)


@every_estimator
def test_joint_mmd_of_one_layer_or_a_constant_one_is_mmd(estimator):
    a, b = samples()
    loss, single = JointMMD(estimator=estimator), MMD(estimator=estimator)
    assert torch.equal(loss.joint([(a[0], b[0])]), single.distance(a[0], b[0]))
    constant = torch.ones(7, 3).double(), torch.ones(5, 3).double()
    assert torch.allclose(loss.joint([(a[0], b[0]), constant]), single.distance(a[0], b[0]))


def test_joint_mmd_sees_what_neither_marginal_shows():
    """Items given to other users: both layers keep their rows, and zero is left only where every pair is kept."""
    (x, y), _ = samples(60)
    swapped = y[torch.randperm(60, generator=torch.Generator().manual_seed(3))]
    assert abs(MMD().distance(x, x).item()) < 1e-12 and abs(MMD().distance(y, swapped).item()) < 1e-12
    assert abs(joint(JointMMD(), (x, y), (x, y)).item()) < 1e-12
    value = joint(JointMMD(), (x, y), (x, swapped)).item()
    assert value > 0.003
    order = torch.randperm(60, generator=torch.Generator().manual_seed(4))
    assert joint(JointMMD(), (x, y), (x[order], swapped[order])).item() == pytest.approx(value)


def test_descent_on_joint_mmd_gives_users_their_items_back():
    (x, y), _ = samples(30, f=2)
    other = (y[torch.arange(30).roll(1)] + 1.0).clone().requires_grad_()
    optimizer = torch.optim.Adam([other], lr=0.05)
    before = joint(JointMMD(), (x, y), (x, other)).item()
    for _ in range(300):
        optimizer.zero_grad()
        joint(JointMMD(), (x, y), (x, other)).backward()
        optimizer.step()
    assert joint(JointMMD(), (x, y), (x, other)).item() < 0.05 * before
    assert (other - y).norm() < 0.8 * (y[torch.arange(30).roll(1)] + 1.0 - y).norm()


def by_definition(name, p):
    """The equations of the papers in numpy, of predictions p (n, c)."""
    sureness = entropy(p, axis=1)
    if name == "prediction_entropy":
        return sureness.mean()
    weights = len(p) * (1 + np.exp(-sureness)) / (1 + np.exp(-sureness)).sum()
    correlation = p.T @ np.diag(weights) @ p
    normal = correlation / correlation.sum(1, keepdims=True)
    return np.abs(normal * (1 - np.eye(p.shape[1]))).sum() / p.shape[1]


@every_predicted
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_predictions_are_scores_of_the_different_partners(name, temperature):
    (x, y), _ = samples(6)
    loss = PREDICTED[name](temperature=temperature)
    expected = by_definition(name, softmax((x @ y.T).numpy() / temperature, axis=1))
    assert loss.single(domain_view(x, y)).item() == pytest.approx(expected, rel=1e-12)
    repeated = y[[0, 1, 2, 1, 0, 1]]  # three items, one of them with three users
    expected = by_definition(name, softmax((x @ y[:3].T).numpy() / temperature, axis=1))
    assert loss.single(domain_view(x, repeated)).item() == pytest.approx(expected, rel=1e-12)


@every_predicted
def test_copies_of_an_item_share_its_gradient(name):
    (x, y), _ = samples(6)
    table, users = y[:3].clone().requires_grad_(), x.requires_grad_()
    copies = table[[0, 1, 2, 1, 0, 1]]
    loss = PREDICTED[name]()
    got = torch.autograd.grad(loss.single(domain_view(users, copies)), (users, table))
    expected = torch.autograd.grad(loss.loss((users @ table.T).log_softmax(1)), (users, table))
    assert all(torch.allclose(p, q, atol=1e-12) for p, q in zip(got, expected))


def test_limits_of_predictions():
    eye, even = torch.eye(4).double(), torch.zeros(4, 4).double()
    sure, confused, entropies = 1e4 * eye, MinimumClassConfusion(), PredictionEntropy()
    assert confused.single(domain_view(sure, eye)) == 0 == entropies.single(domain_view(sure, eye))
    assert confused.single(domain_view(even, eye)).item() == pytest.approx(1 - 1 / 4)
    assert entropies.single(domain_view(even, eye)).item() == pytest.approx(np.log(4))
    for loss in (confused, entropies):  # one item, and an item that nobody predicts
        assert loss.single(domain_view(eye, eye[:1].expand(4, -1))).item() == pytest.approx(0, abs=1e-12)
    same = sure[:1].expand(4, -1)
    assert entropies.single(domain_view(same, eye)) == 0
    assert confused.single(domain_view(same, eye)).item() == pytest.approx(1 - 1 / 4)


@every_predicted
def test_a_temperature_is_a_scale_of_the_scores(name):
    (x, y), _ = samples(6)
    kind = PREDICTED[name]
    cool = kind(temperature=0.5).single(domain_view(x, y))
    assert torch.allclose(cool, kind().single(domain_view(2 * x, y))) and cool < kind().single(domain_view(x, y))


@every_predicted
def test_descent_makes_predictions_sure(name):
    (x, y), _ = samples(12)
    y = y * 3.0
    start = x.clone().requires_grad_()
    optimizer, loss = torch.optim.Adam([start], lr=0.05), PREDICTED[name]()
    for _ in range(300):
        optimizer.zero_grad()
        loss.single(domain_view(start, y)).backward()
        optimizer.step()
    tops = [(u @ y.T).softmax(1).max(1).values.mean().item() for u in (x, start.detach())]
    assert tops[1] > 0.95 > tops[0]


@every_predicted
def test_which_domains_predict(name):
    (x, y), (u, v) = samples()
    both = DomainViews(
        torch.cat([x, u]), torch.tensor([0] * 7 + [2] * 5), torch.arange(12), layers={"partner": torch.cat([y, v])}
    )
    loss = PREDICTED[name]()
    alone = [loss.single(domain_view(x, y)), loss.single(domain_view(u, v))]
    total, entries = loss({"users": both}, target=2)
    assert torch.allclose(total, alone[1]) and list(entries) == [f"adaptation/{loss.name}/2"]
    total, entries = PREDICTED[name](domains="all")({"users": both})
    assert torch.allclose(total, sum(alone) / 2) and len(entries) == 2
    nothing, entries = loss({"users": both}, target=1)
    assert nothing == 0 and not entries
    with pytest.raises(CrossrecError, match=rf"adaptation.{loss.name}.domains=target needs one target domain: set"):
        loss({"users": both})


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        (JointMMD, {"bandwidths": []}, "one or more positive"),
        (JointMMD, {"bandwidth": 0.0}, r"adaptation.jointmmd.bandwidth=0.0 must be positive"),
        (JointMMD, {"bandwidth": "ema"}, "median, or a number"),
        (JointMMD, {"estimator": "linear"}, "biased, unbiased"),
        (JointMMD, {"reduce": "max"}, "mean, sum"),
        *((kind, {"temperature": 0.0}, "temperature=0.0 must be more than 0") for kind in PREDICTED.values()),
        *((kind, {"domains": "source"}, "domains='source' must be target or all") for kind in PREDICTED.values()),
    ],
)
def test_mistakes_are_told(kind, options, told):
    with pytest.raises(CrossrecError, match=told):
        kind(**options)
    with pytest.raises(CrossrecError, match="reads 'partner', but the strategy only shows the vectors themselves"):
        kind()({"users": DomainViews(torch.zeros(2, 2), torch.arange(2), torch.arange(2))}, target=0)
