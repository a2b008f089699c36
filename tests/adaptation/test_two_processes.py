"""Every registered loss in two processes: the gradients of one, and critics that stay the same in both."""

from typing import Any

import pytest
import torch
from processes import in_two_processes
from registered import CASES, LAYERS, F, call, loss

from crossrec.adaptation.adversarial import AdversarialAdaptation
from crossrec.adaptation.base import Adaptation, DomainViews

CRITICS = [case for case in CASES if isinstance(loss(case[0], **case[1]), AdversarialAdaptation)]
ALTERNATING = [case for case in CRITICS if loss(case[0], **case[1]).mode == "alternating"]
ROWS = 28
SHARES = {  # places of the rows of each process
    "dealt": (torch.arange(0, ROWS, 2), torch.arange(1, ROWS, 2)),
    "unequal": (torch.arange(19), torch.arange(19, ROWS)),
    "one has none": (torch.arange(ROWS), torch.arange(0)),
}


class Trained(torch.nn.Module):
    """A tower of the vectors and of all layers, and a term, as a strategy holds them."""

    def __init__(self, term: Adaptation) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.tower = torch.nn.Linear(3, F * (1 + len(LAYERS))).double()
        self.term = term

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        """The term on the rows at these places; ids are repeated, and with other vectors: the last counts."""
        g = torch.Generator().manual_seed(0)
        inputs = torch.randn(ROWS, 3, generator=g, dtype=torch.float64)[places]
        ids, domains = places % 7, places // 2 % 2
        vectors, *layers = self.tower(inputs).chunk(1 + len(LAYERS), 1)
        members = torch.ones(len(ids), 2, dtype=torch.bool)
        return call(self.term, DomainViews(vectors, domains, ids, None, members, dict(zip(LAYERS, layers)), places))[0]


def steps(model: torch.nn.Module, places: torch.Tensor) -> list[list[torch.Tensor]]:
    """Gradients of three steps of training, the parameters after them, and the state of the critic's own optimizer."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    found = []
    for _ in range(3):
        optimizer.zero_grad()
        model(places).backward()
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        optimizer.step()
    whole = getattr(model, "module", model)
    own = whole.term.get_extra_state() if isinstance(whole.term, AdversarialAdaptation) else {}
    moments = [moment for state in own.get("state", {}).values() for moment in state.values()]
    return [*found, [p.detach() for p in whole.parameters()], moments]


def of_rank(rank: int) -> dict[str, Any]:
    """Of all losses with rows as a loader deals them; of all critics with other shares too; of critics that round."""
    together = torch.nn.parallel.DistributedDataParallel
    found: dict[str, Any] = {"rounding": {}}
    for kind, places in SHARES.items():
        cases = CASES if kind == "dealt" else [("mmd", {}), *CRITICS]
        found[kind] = {str(c): steps(together(Trained(loss(c[0], **c[1]))), places[rank]) for c in cases}
    for name, more in ALTERNATING:
        term = loss(name, **more)
        exact = term.critic_loss
        # as where the two processes' devices do not add in the same order
        term.critic_loss = lambda rows, of=term, exact=exact: (
            exact(rows) + rank * 1e-7 * sum(p.sum() for p in of.critic.parameters())
        )
        found["rounding"][str((name, more))] = steps(together(Trained(term)), SHARES["dealt"][rank])
    return found


@pytest.fixture(scope="module")
def ranks() -> list[dict[str, Any]]:
    return in_two_processes(of_rank)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_they_have_the_gradients_of_one(ranks: list[dict[str, Any]], case: tuple[str, dict[str, Any]]) -> None:
    alone = steps(Trained(loss(case[0], **case[1])), torch.arange(ROWS))
    assert max(g.abs().max() for g in alone[0]) > 1e-3
    for found in ranks:
        for kind in SHARES:
            got = found[kind].get(str(case), alone)
            for ours, theirs in zip(alone, got, strict=True):
                assert all(torch.allclose(a, b, rtol=0, atol=1e-6) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("case", ALTERNATING, ids=str)
@pytest.mark.parametrize("kind", [*SHARES, "rounding"])
def test_critics_and_their_optimizers_stay_the_same(
    ranks: list[dict[str, Any]], case: tuple[str, dict[str, Any]], kind: str
) -> None:
    (*_, first, moments), (*_, second, others) = (found[kind][str(case)] for found in ranks)
    assert len(moments) == 3 * len(list(loss(case[0], **case[1]).critic.parameters())) > 0  # Adam has three
    assert all(torch.equal(a, b) for a, b in zip([*first, *moments], [*second, *others], strict=True))
