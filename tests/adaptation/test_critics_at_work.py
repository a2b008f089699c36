"""What critics learn, and what they make of vectors."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from crossrec.adaptation.base import DomainViews
from crossrec.adaptation.cdan import CDAN
from crossrec.adaptation.dann import DANN
from crossrec.adaptation.wasserstein_critic import WassersteinCritic

F = 3


def ready(term, n_domains=2):
    term.prepare(n_domains)
    return term


def test_only_conditions_tell_these_domains_apart():
    """In domain 0 a user and an item are alike, in domain 1 they are opposite: neither by itself says which."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(400, F, generator=g)
    domains = torch.arange(400) % 2
    seen = DomainViews(x, domains, torch.arange(400), layers={"partner": x * (1.0 - 2.0 * domains).unsqueeze(1)})
    found = {}
    for term in (DANN(dim=F), CDAN(dim=F), CDAN(dim=F, map="randomised", width=50)):
        ready(term)
        optimizer = torch.optim.Adam(term.parameters(), lr=0.01)
        for _ in range(60):
            optimizer.zero_grad()
            value, entries = term({"users": seen})
            value.backward()
            optimizer.step()
        found[f"{term.name} {getattr(term, 'map', '')}"] = entries[f"adaptation/{term.name}/accuracy"].item()
    assert found["cdan multilinear"] > 0.95 and found["cdan randomised"] > 0.9 and found["dann "] < 0.75


@pytest.mark.parametrize("penalty", [10.0, 200.0])
def test_the_wasserstein_estimate_is_the_length_of_a_shift(penalty):
    g = torch.Generator().manual_seed(0)
    shift = torch.tensor([3.0, 0.0, -4.0])
    x = torch.cat([torch.randn(128, F, generator=g), torch.randn(256, F, generator=g) + shift])
    seen = DomainViews(x.requires_grad_(), (torch.arange(384) >= 128).long(), torch.arange(384))
    term = ready(WassersteinCritic(dim=F, hidden=[32], critic_lr=5e-3, penalty=penalty))
    for _ in range(80):
        value, entries = term({"users": seen})
    slope = 1 + 5 / (2 * penalty)  # where the distance gains no more than the penalty costs
    assert entries["adaptation/wassersteincritic/0-1"].item() == pytest.approx(5 * slope, rel=0.05)
    (gradient,) = torch.autograd.grad(value, seen.vectors)  # each row is pulled along the shift
    assert torch.allclose(gradient[:128].sum(0), -slope * shift / 5, atol=0.15)
    assert torch.allclose(gradient[128:].sum(0), slope * shift / 5, atol=0.15)


TRAINED = {
    "dann": lambda: DANN(dim=F, hidden=[16], reversal_schedule="linear"),
    "dann confusion": lambda: DANN(dim=F, hidden=[16], mode="alternating", critic_steps=3, critic_lr=0.01),
    "dann reverse": lambda: DANN(
        dim=F, hidden=[16], mode="alternating", critic_steps=3, critic_lr=0.01, goal="reverse"
    ),
    "cdan": lambda: CDAN(dim=F, hidden=[16], reversal_schedule="linear"),
    "wasserstein": lambda: WassersteinCritic(dim=F, hidden=[16], critic_lr=0.01),
}


def probed(x, domains):
    """Accuracy of a fresh logistic regression on the other half of the rows."""
    half = torch.arange(len(x)) < len(x) // 2
    probe = LogisticRegression(max_iter=500).fit(x[half].numpy(), domains[half].numpy())
    return probe.score(x[~half].numpy(), domains[~half].numpy())


@pytest.mark.parametrize(("kind", "n_domains"), [*((kind, 2) for kind in TRAINED), ("dann", 3)])
def test_vectors_are_trained_until_their_domains_cannot_be_told(kind, n_domains):
    """A linear tower reads three tastes and one-hot domains, and must keep the tastes."""
    g = torch.Generator().manual_seed(0)
    n = 200 * n_domains
    domains = torch.arange(n) % n_domains
    tastes = torch.randn(n, F, generator=g)
    inputs = torch.cat([tastes, torch.nn.functional.one_hot(domains).float()], 1)
    partners = torch.ones(n, F)

    def train(term, moves):
        tower = torch.nn.Linear(F + n_domains, F, bias=False)
        with torch.no_grad():
            tower.weight.copy_(torch.eye(F, F + n_domains))
            tower.weight[:, F:] = 3.0 * torch.linalg.qr(torch.ones(F, F) + torch.eye(F)).Q[:, :n_domains]
        groups = [{"params": term.parameters(), "lr": 0.02}, {"params": tower.parameters(), "lr": 0.04 * moves}]
        optimizer = torch.optim.Adam(groups, betas=(0.5, 0.9))
        for i in range(100 if kind == "wasserstein" and moves else 1 if kind == "wasserstein" else 200):
            x = tower(inputs)
            seen = DomainViews(x, domains, torch.arange(n), layers={"partner": partners})
            value, entries = term({"users": seen}, progress=i / 200)
            optimizer.zero_grad()
            (value + (x - tastes).square().mean()).backward()
            optimizer.step()
        return tower(inputs).detach(), entries.get(f"adaptation/{term.name}/accuracy")

    still, accuracy = train(ready(TRAINED[kind](), n_domains), moves=False)
    assert probed(still, domains) > 0.95 and (kind == "wasserstein" or accuracy > 0.95)
    moved, _ = train(ready(TRAINED[kind](), n_domains), moves=True)
    assert probed(moved, domains) < 1 / n_domains + 0.1
    kept = np.corrcoef(moved.numpy().T, tastes.numpy().T)[:F, F:]
    assert np.diag(kept).min() > 0.8  # it did not part with the domains by parting with everything
