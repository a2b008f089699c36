import pytest
import torch
from processes import in_two_processes

from crossrec.adaptation.base import DomainViews
from crossrec.adaptation.gather import gather_views
from crossrec.adaptation.mmd import MMD

PLACES = torch.arange(16)
SHARES = [  # rows of each process
    (PLACES[:11], PLACES[11:]),
    (PLACES, PLACES[:0]),
    (PLACES[::2], PLACES[1::2]),  # as a loader deals them out
    (PLACES[1::2], PLACES[::2]),
]


def everything():
    g = torch.Generator().manual_seed(0)
    inputs = torch.randn(16, 3, generator=g, dtype=torch.float64)
    domains = torch.tensor([0, 1, 1, 0] * 4)
    # ids that both processes see, with another vector each time: the last counts
    ids = torch.tensor([0, 1, 2, 3, 4, 5, 6, 2, 3, 9, 10, 11, 4, 1, 2, 0])
    return inputs, domains, ids


def tower():
    torch.manual_seed(0)
    return torch.nn.Linear(3, 4).double()


def gradient(model, inputs, domains, ids, order):
    membership = torch.ones(len(ids), 2, dtype=torch.bool)
    views = {"users": DomainViews(model(inputs), domains, ids, membership=membership, order=order)}
    total, entries = MMD(rows="overlap")(views)
    total.backward()
    return entries["adaptation/mmd/0-1"]


def work(rank):
    results = []
    for share in SHARES:
        inputs, domains, ids = [t[share[rank]] for t in everything()]
        model = torch.nn.parallel.DistributedDataParallel(tower())
        value = gradient(model, inputs, domains, ids, share[rank])
        gathered = gather_views(DomainViews(inputs, domains, ids, order=share[rank]))
        results.append((value.item(), model.module.weight.grad.tolist(), gathered.vectors.tolist()))
    return results


def test_two_processes_have_the_gradient_of_one():
    results = [result for of_rank in in_two_processes(work) for result in of_rank]
    model = tower()
    value = gradient(model, *everything(), None)
    assert model.weight.grad.abs().max() > 1e-3
    assert len(results) == 2 * len(SHARES)
    for theirs, weights, gathered in results:
        assert theirs == pytest.approx(value.item(), abs=1e-12)
        assert torch.allclose(torch.tensor(weights, dtype=torch.float64), model.weight.grad, atol=1e-10)
        assert torch.equal(torch.tensor(gathered, dtype=torch.float64), everything()[0])


def test_one_process_gathers_nothing():
    view = DomainViews(*everything())
    assert gather_views(view) is view
