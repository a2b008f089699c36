import numpy as np
import pytest
import torch

from crossrec.adaptation.base import DomainViews
from crossrec.adaptation.entropy import ClusterEntropy
from crossrec.errors import CrossrecError

F = 3


def rows(n=7, seed=0, dtype=torch.float64):
    return torch.randn(n, F, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def view(vectors):
    return DomainViews(vectors, torch.zeros(len(vectors), dtype=torch.long), torch.arange(len(vectors)))


def value(vectors, **options):
    return ClusterEntropy(**{"dim": F, "clusters": 4, "temperature": 0.3, **options}).double().single(view(vectors))


def test_limits_invariances_and_scaling():
    x = rows()
    order = torch.randperm(7, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(value(x[order]), value(x)) and torch.allclose(value(9 * x), value(x))
    loss = ClusterEntropy(dim=F, clusters=3, temperature=0.01).double()
    loss.prototypes.data = torch.eye(F, dtype=torch.float64)
    assert loss.single(view(torch.eye(F, dtype=torch.float64))).item() == pytest.approx(-np.log(3))
    assert value(x[:1].expand(5, -1)).item() == pytest.approx(0, abs=1e-12)  # nothing told apart
    assert -np.log(4) <= value(x).item() <= 0  # a negated mutual information
    assert value(x, diversity=0.0) > 0


def test_prototypes_are_saved_and_the_seeds_and_the_global_random_state_is_untouched():
    before = torch.random.get_rng_state()
    first, other = ClusterEntropy(dim=F, seed=1).double(), ClusterEntropy(dim=F, seed=2).double()
    assert torch.equal(first.single(view(rows())), ClusterEntropy(dim=F, seed=1).double().single(view(rows())))
    other.load_state_dict(first.state_dict())
    assert torch.equal(first.single(view(rows())), other.single(view(rows())))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("sizes", [(2, 5), (1, 3), (0, 2), (1, 1)])
@pytest.mark.parametrize("kind", ["random", "equal", "zero", "huge", "tiny"])
@pytest.mark.parametrize("temperature", [0.1, 1e-3])
def test_degenerate_batches_are_finite_and_connected(sizes, kind, temperature):
    n = sum(sizes)
    x = rows(n, dtype=torch.float32)
    x = {"equal": x[:1].expand(n, -1), "zero": 0 * x, "huge": 1e15 * x, "tiny": 1e-12 * x}.get(kind, x)
    x = x.clone().requires_grad_()
    loss = ClusterEntropy(dim=F, temperature=temperature)
    domains = torch.tensor([0] * sizes[0] + [1] * sizes[1])
    total, entries = loss({"users": DomainViews(x, domains, torch.arange(n))})
    total.backward()
    assert torch.isfinite(total) and torch.isfinite(x.grad).all() and torch.isfinite(loss.prototypes.grad).all()
    assert len(entries) == sum(s >= 2 for s in sizes)
    if not entries:
        assert total == 0


def test_descent_on_the_loss_alone_gives_the_domains_the_same_clusters():
    x = torch.cat([rows(40, dtype=torch.float32), 0.3 * rows(40, 1, torch.float32) + 1.0]).requires_grad_()
    batch = {"users": DomainViews(x, torch.tensor([0] * 40 + [1] * 40), torch.arange(80))}
    loss = ClusterEntropy(dim=F, clusters=4, temperature=0.3, diversity=2.0)
    optimizer = torch.optim.Adam([x, *loss.parameters()], lr=0.05)

    def gap_and_sureness():
        p = loss.log_assignments(x.detach()).exp()
        return (p[:40].mean(0) - p[40:].mean(0)).abs().sum().item(), p.max(1).values.mean().item()

    gap, _ = gap_and_sureness()
    for _ in range(200):
        optimizer.zero_grad()
        loss(batch)[0].backward()
        optimizer.step()
    left, sure = gap_and_sureness()
    assert gap > 0.8 and left < 0.2 and sure > 0.95


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"dim": 0}, r"clusterentropy.dim=0 must be at least 1"),
        ({"clusters": 1}, "clusters=1 must be at least 2"),
        ({"temperature": 0.0}, "must be more than 0"),
        ({"diversity": -1.0, "name": "x"}, r"adaptation.x.diversity=-1.0 must be at least 0"),
    ],
)
def test_mistakes_are_told(options, told):
    with pytest.raises(CrossrecError, match=told):
        ClusterEntropy(**{"dim": F, **options})
    with pytest.raises(CrossrecError, match="dim=5 must be 3, the vectors' width"):
        value(rows(), dim=5)
