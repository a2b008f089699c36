import numpy as np
import pytest
import torch

from crossrec.adaptation.base import DomainViews
from crossrec.adaptation.contrastive import InfoNCE
from crossrec.adaptation.decorrelation import BarlowTwins
from crossrec.adaptation.hsic import HSIC
from crossrec.adaptation.mapping import Mapping
from crossrec.adaptation.numerics import unit_rows
from crossrec.errors import CrossrecError

F = 3
LOSSES = {
    "one_way": lambda: InfoNCE(temperature=0.5, direction="one_way"),
    "symmetric": lambda: InfoNCE(temperature=0.5),
    "dot": lambda: InfoNCE(temperature=2.0, similarity="dot"),
    "linear_map": lambda: ready(dim=F, map="linear"),
    "mlp": lambda: ready(dim=F, map="mlp", hidden=4, distance="cosine"),
    "identity": lambda: ready(dim=F, map="identity"),
    "identity_cosine": lambda: ready(dim=F, map="identity", distance="cosine"),
    "barlow_twins": lambda: BarlowTwins(redundancy=0.3),
    "hsic_linear": lambda: HSIC(kernel="linear"),
    "hsic_gaussian": lambda: HSIC(bandwidth=1.3),
    "hsic_median": lambda: HSIC(),
}
every_loss = pytest.mark.parametrize("name", list(LOSSES))


def ready(**options):
    loss = Mapping(**options)
    loss.prepare(2)
    return loss


def matched_rows(k=6, seed=0, noise=0.5):
    g = torch.Generator().manual_seed(seed)
    a = torch.randn(k, F, generator=g, dtype=torch.float64)
    return a, a + noise * torch.randn(k, F, generator=g, dtype=torch.float64)


def make(name):
    return LOSSES[name]().double()


@every_loss
def test_symmetry_where_it_is_claimed(name):
    a, b = matched_rows()
    loss = make(name)
    same = torch.allclose(loss.paired(a, b), loss.paired(b, a), atol=1e-12)
    assert same == (name not in ("one_way", "linear_map", "mlp"))


@every_loss
def test_order_of_rows_does_not_matter_but_the_match_does(name):
    a, b = matched_rows()
    loss = make(name)
    order = torch.randperm(len(a), generator=torch.Generator().manual_seed(3))
    assert torch.allclose(loss.paired(a[order], b[order]), loss.paired(a, b), atol=1e-12)
    assert not torch.allclose(loss.paired(a, b[order]), loss.paired(a, b), atol=1e-6)


def test_least_and_neutral_values():
    a, _ = matched_rows(8)
    for name in ("identity", "identity_cosine"):
        assert make(name).paired(a, a).item() == pytest.approx(0, abs=1e-12)
    white = torch.linalg.qr(a - a.mean(0)).Q
    assert BarlowTwins().paired(white, white).item() == pytest.approx(0, abs=1e-12)
    equal = a[:1].expand(8, -1)
    for name in ("one_way", "symmetric", "dot"):
        assert make(name).paired(equal, equal).item() == pytest.approx(np.log(8))
    for name in ("hsic_linear", "hsic_gaussian", "hsic_median"):
        assert make(name).paired(a, equal).item() == pytest.approx(0, abs=1e-12)
    assert BarlowTwins().paired(a, equal).item() == pytest.approx(F)
    assert make("identity_cosine").paired(a, -a).item() == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("name", "power"),
    [
        *((name, 0) for name in ("one_way", "symmetric", "identity_cosine", "barlow_twins", "hsic_median")),
        *(("identity", 2), ("linear_map", 2), ("hsic_linear", 4)),
    ],
)
def test_scaling_laws(name, power):
    a, b = matched_rows()
    loss = make(name)
    assert torch.allclose(loss.paired(3 * a, 3 * b), 3.0**power * loss.paired(a, b))
    if power == 0:
        assert torch.allclose(loss.paired(3 * a, 0.5 * b), loss.paired(a, b))


def test_scaling_of_dot_and_of_a_fixed_bandwidth():
    a, b = matched_rows()
    dot = InfoNCE(similarity="dot", temperature=9.0).paired(3 * a, 3 * b)
    assert torch.allclose(dot, InfoNCE(similarity="dot", temperature=1.0).paired(a, b))
    assert torch.allclose(HSIC(bandwidth=2.0).paired(2 * a, 2 * b), HSIC(bandwidth=1.0).paired(a, b))


@pytest.mark.parametrize("name", ["barlow_twins", "hsic_linear", "hsic_gaussian", "hsic_median"])
def test_a_shift_of_either_side_is_not_felt(name):
    a, b = matched_rows()
    loss = make(name)
    assert torch.allclose(loss.paired(a + 100, b - 50), loss.paired(a, b), atol=1e-9)
    exact = loss.paired(a, b).item()
    assert LOSSES[name]().paired((a + 100).float(), (b - 50).float()).item() == pytest.approx(exact, rel=1e-3)


def test_independent_sides_have_less_dependence():
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(300, 2, generator=g), torch.randn(300, 2, generator=g)
    for kernel in ("linear", "gaussian"):
        assert HSIC(kernel=kernel).paired(a, b) < 0.1 * HSIC(kernel=kernel).paired(a, a)
    uncorrelated = a.square()  # dependent all the same
    assert HSIC().paired(a, uncorrelated) > 10 * HSIC().paired(a, b)


@pytest.mark.parametrize(
    ("gradient", "moved"), [("both", (True, True)), ("first", (True, False)), ("none", (False,) * 2)]
)
def test_gradient_says_who_moves(gradient, moved):
    a, b = (x.float().requires_grad_() for x in matched_rows())
    loss = ready(dim=F, gradient=gradient)
    loss.paired(a, b).backward()
    assert (a.grad is not None, b.grad is not None) == moved and loss.maps["0-1"][0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("map", ["linear", "mlp"])
def test_the_map_is_saved_and_its_values_are_the_seeds(map):
    a, b = matched_rows()
    first = ready(dim=F, map=map, seed=1)
    torch.rand(5)
    assert torch.equal(first.double().paired(a, b), ready(dim=F, map=map, seed=1).double().paired(a, b))
    other = ready(dim=F, map=map, seed=2).double()
    assert not torch.equal(first.paired(a, b), other.paired(a, b))
    other.load_state_dict(first.state_dict())
    assert torch.equal(first.paired(a, b), other.paired(a, b))
    assert [p.shape for p in ready(dim=4, map="mlp").parameters()] == [(8, 4), (8,), (4, 8), (4,)]


def test_each_pair_of_domains_has_its_map():
    loss = Mapping(dim=F, pairs="target")
    loss.prepare(3)
    assert sorted(loss.maps) == ["0-1", "0-2", "1-0", "1-2", "2-0", "2-1"]
    vectors = matched_rows()[0].float().repeat(3, 1)
    views = {"users": DomainViews(vectors, torch.arange(3).repeat_interleave(6), torch.arange(6).repeat(3))}
    total, entries = loss(views, target=1)
    total.backward()
    moved = {key for key, map in loss.maps.items() if map[0].weight.grad.abs().sum() > 0}
    assert moved == {"0-1", "2-1"} and len(set(map(float, entries.values()))) == 2


def test_the_map_finds_a_linear_relation():
    g = torch.Generator().manual_seed(0)
    a, truth = torch.randn(64, F, generator=g), torch.randn(F, F, generator=g)
    loss = ready(dim=F, gradient="none")
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        loss.paired(a, a @ truth.T).backward()
        optimizer.step()
    assert torch.allclose(loss.maps["0-1"][0].weight, truth, atol=1e-3)


def batch(vectors_a, vectors_b, ids_a, ids_b):
    ids = torch.tensor([*ids_a, *ids_b])
    domains = torch.tensor([0] * len(ids_a) + [1] * len(ids_b))
    return {"users": DomainViews(torch.cat([vectors_a, vectors_b]), domains, ids)}


@every_loss
def test_unequal_sides_use_the_matched_rows(name):
    a, b = matched_rows()
    total, entries = make(name)(batch(a, b[:4].flip(0), [4, 7, 9, 2, 5, 1], [2, 9, 7, 4]))
    order = torch.tensor([3, 0, 1, 2])  # ascending ids
    assert torch.allclose(total, make(name).paired(a[order], b[order])) and len(entries) == 1


@every_loss
@pytest.mark.parametrize("ids", [[0, 1], [0, 7], [8, 9]])
@pytest.mark.parametrize("value", ["random", "equal", "zero", "huge", "tiny"])
def test_degenerate_batches_are_finite_and_connected(name, ids, value):
    a, b = (x[:2].float() for x in matched_rows())
    a = {"random": a, "equal": a[:1].expand(2, -1), "zero": 0 * a, "huge": 1e4 * a, "tiny": 1e-12 * a}[value]
    b = {"equal": b[:1].expand(2, -1), "zero": 0 * b}.get(value, b)
    a, b = a.clone().requires_grad_(), b.clone().requires_grad_()
    loss = LOSSES[name]()
    total, entries = loss(batch(a, b, [0, 1], ids))
    total.backward()
    assert torch.isfinite(total) and total >= -1e-6
    for x in (a, b, *loss.parameters()):
        assert x.grad is not None and torch.isfinite(x.grad).all()
    common = len({0, 1} & set(ids))
    if common < loss.min_rows:
        assert total == 0 and all(v == 0 for v in entries.values())


@pytest.mark.parametrize("name", ["barlow_twins", "hsic_linear", "hsic_gaussian", "hsic_median", "symmetric"])
def test_constant_coordinates_and_a_repeated_row_are_finite(name):
    a, b = (x.float() for x in matched_rows(9))
    a = torch.cat([a[:, :2], torch.ones(9, 1)], 1).requires_grad_()
    hot = torch.cat([b[:1].expand(8, -1), b[8:]]).requires_grad_()
    value = LOSSES[name]().paired(a, hot)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(a.grad).all() and torch.isfinite(hot.grad).all()


def test_a_row_without_direction_gets_no_gradient():
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-7, 0.0]], requires_grad=True)
    unit = unit_rows(x)
    assert torch.allclose(unit, torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.0, 0.0]]))
    unit.sum().backward()
    assert torch.isfinite(x.grad).all() and (x.grad[1:] == 0).all()


@every_loss
def test_descent_on_the_loss_alone(name):
    """Aligning losses bring an id's two vectors together; HSIC parts vectors that start dependent."""
    hsic = name.startswith("hsic")
    a, b = (x.float() for x in (matched_rows(40, noise=0.3) if hsic else matched_rows(8, noise=3.0)))
    loss = {"one_way": InfoNCE(direction="one_way"), "symmetric": InfoNCE()}.get(name) or LOSSES[name]()
    a.requires_grad_()
    before = loss.paired(a, b).item()
    optimizer = torch.optim.Adam([a, *loss.parameters()], lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        loss.paired(a, b).backward()
        optimizer.step()
    assert loss.paired(a, b).item() < 0.3 * before
    mapped = loss.maps["0-1"](a) if isinstance(loss, Mapping) else a
    if name in ("one_way", "symmetric"):
        assert (unit_rows(a) @ unit_rows(b).T).argmax(1).tolist() == list(range(8))
    if isinstance(loss, Mapping):
        assert torch.allclose(mapped, b, atol=0.05) or loss.distance == "cosine"
        assert torch.allclose(unit_rows(mapped), unit_rows(b), atol=0.05)
    if isinstance(loss, BarlowTwins):
        assert np.diag(np.corrcoef(a.detach().T, b.T)[:F, F:]).min() > 0.8


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        (InfoNCE, {"temperature": 0.0}, r"infonce.temperature=0.0 must be more than 0"),
        (InfoNCE, {"direction": "back"}, "one_way or symmetric"),
        (InfoNCE, {"similarity": "l2", "name": "x"}, "adaptation.x.similarity='l2' must be cosine or dot"),
        (Mapping, {"dim": 0}, "at least 1"),
        (Mapping, {"dim": 2, "map": "affine"}, "linear, mlp or identity"),
        (Mapping, {"dim": 2, "hidden": 3}, "must be null, or 1 or more with map=mlp"),
        (Mapping, {"dim": 2, "distance": "l1"}, "mse or cosine"),
        (Mapping, {"dim": 2, "gradient": "second"}, "both, first or none"),
        (Mapping, {"dim": 2, "gradient": "none", "map": "identity"}, "both or first with map=identity"),
        (BarlowTwins, {"redundancy": -1.0}, "at least 0"),
        (BarlowTwins, {"eps": 0.0}, "more than 0"),
        (HSIC, {"kernel": "laplace"}, "linear or gaussian"),
        (HSIC, {"bandwidth": "ema"}, "median or a positive number"),
        (HSIC, {"bandwidth": float("nan")}, "median or a positive number"),
    ],
)
def test_mistakes_are_told(kind, options, told):
    with pytest.raises(CrossrecError, match=told):
        kind(**options)


def test_a_wrong_width_is_told():
    with pytest.raises(CrossrecError, match="dim=5 must be 3, the vectors' width"):
        ready(dim=5).double().paired(*matched_rows())
