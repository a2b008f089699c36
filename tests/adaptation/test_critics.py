"""DANN, CDAN and the Wasserstein critic: values by hand."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from crossrec.adaptation.adversarial import CriticRows
from crossrec.adaptation.base import DomainViews
from crossrec.adaptation.cdan import CDAN, normalised_entropies
from crossrec.adaptation.dann import DANN
from crossrec.adaptation.perceptron import mlp
from crossrec.adaptation.wasserstein_critic import WassersteinCritic
from crossrec.errors import CrossrecError

F = 3


def ready(term, n_domains=2):
    term.prepare(n_domains)
    return term


def rows(sizes=(4, 3, 2), target=None, weighted=False, seed=0):
    g = torch.Generator().manual_seed(seed)
    domains = torch.cat([torch.full((size,), d) for d, size in enumerate(sizes)])
    x = torch.randn(len(domains), F, generator=g, dtype=torch.float64) + domains.unsqueeze(1)
    weights = torch.ones(len(domains), dtype=torch.float64)
    if weighted:
        weights = weights + torch.linspace(-0.5, 0.5, len(domains), dtype=torch.float64)
    return CriticRows(x.requires_grad_(), domains, weights, target)


def by_hand(critic, x):
    """Outputs of a perceptron in numpy."""
    layers = [m for m in critic if isinstance(m, torch.nn.Linear)]
    slope = 0.0 if isinstance(critic[1], torch.nn.ReLU) else 0.2
    for i, layer in enumerate(layers):
        x = x @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        x = np.where(x > 0, x, slope * x) if i < len(layers) - 1 else x
    return x


def with_biases(term):
    for i, bias in enumerate(p for p in term.parameters() if p.ndim == 1):
        torch.nn.init.constant_(bias, 0.1 * (i + 1))
    return term


@pytest.mark.parametrize("activation", ["relu", "leaky_relu"])
@pytest.mark.parametrize("sizes", [(4, 3, 2), (4, 0, 2)])
def test_dann_is_the_cross_entropy_of_equal_shares_of_the_domains(activation, sizes):
    term = with_biases(ready(DANN(dim=F, hidden=[5, 4], activation=activation, mode="alternating"), 3).double())
    seen = rows(sizes, weighted=True)
    logs = log_softmax(by_hand(term.critic, seen.features.detach().numpy()), axis=1)
    of, w = seen.domains.numpy(), seen.weights.numpy()
    present = [d for d, size in enumerate(sizes) if size]
    loss = np.mean([np.mean(w[of == d] * -logs[of == d, d]) for d in present])
    confusion = np.mean([np.mean(w[of == d] * -logs[of == d][:, present].mean(1)) for d in present])
    assert term.critic_loss(seen).item() == pytest.approx(loss, rel=1e-12)
    assert term.encoder_loss(seen).item() == pytest.approx(confusion, rel=1e-12)
    term.goal = "reverse"
    assert term.encoder_loss(seen).item() == pytest.approx(-loss, rel=1e-12)
    term.report(seen)
    right = np.mean([np.mean(logs[of == d].argmax(1) == d) for d in present])
    assert term._more["accuracy"].item() == pytest.approx(right)


def test_chance_is_log_n_and_confusion_is_least_where_the_critic_knows_nothing():
    term = ready(DANN(dim=F, hidden=[], mode="alternating"), 3).double()
    torch.nn.init.zeros_(term.critic[0].weight)
    for sizes in ((4, 3, 2), (90, 1, 1)):
        assert term.critic_loss(rows(sizes)).item() == pytest.approx(math.log(3))
        assert term.encoder_loss(rows(sizes)).item() == pytest.approx(math.log(3))
    torch.nn.init.eye_(term.critic[0].weight)
    assert term.encoder_loss(rows()).item() > math.log(3) + 0.01


def pairs_view(n=5, domains=None, seed=0):
    g = torch.Generator().manual_seed(seed)
    x, p = (torch.randn(n, F, generator=g, dtype=torch.float64) for _ in range(2))
    p[1] = p[0]  # two rows of one partner
    domains = torch.zeros(n, dtype=torch.long) if domains is None else torch.tensor(domains)
    return DomainViews(x.requires_grad_(), domains, torch.arange(n), layers={"partner": p.requires_grad_()})


def test_cdan_reads_the_products_or_their_random_projections():
    seen = pairs_view()
    x, p = seen.vectors.detach().numpy(), seen.layers["partner"].detach().numpy()
    flat = ready(CDAN(dim=F)).double().features(seen)
    assert np.allclose(flat.detach(), np.einsum("ni,nj->nij", x, p).reshape(5, -1)) and flat.shape[1] == F * F
    term = ready(CDAN(dim=F, map="randomised", width=4000)).double()
    projected = term.features(seen)
    assert np.allclose(projected.detach(), (x @ term.map_vectors.numpy()) * (p @ term.map_partners.numpy()) / 4000**0.5)
    # eq. (6) keeps inner products of eq. (5), in expectation
    assert np.allclose(projected.detach() @ projected.detach().T, flat.detach() @ flat.detach().T, atol=0.8)
    assert ready(CDAN(dim=F, map="randomised")).critic[0].in_features == 1024
    projected.sum().backward()
    assert seen.vectors.grad.abs().min() > 0 and seen.layers["partner"].grad is None


def test_entropy_weights_by_hand():
    seen = pairs_view(6, [0, 0, 0, 1, 1, 2])
    weights = CDAN(dim=F).double().weights(seen)
    x, p = seen.vectors.detach().numpy(), seen.layers["partner"].detach().numpy()
    for of, partners in (([0, 1, 2], [0, 2]), ([3, 4], [3, 4]), ([5], [5])):  # rows, and different partners
        logs = log_softmax(x[of] @ p[partners].T, axis=1)
        entropy = -(np.exp(logs) * logs).sum(1) / (math.log(len(partners)) if len(partners) > 1 else 1.0)
        raw = 1 + np.exp(-entropy)
        assert np.allclose(weights[of], raw / raw.mean()) and weights[of].mean().item() == pytest.approx(1.0)
    assert not weights.requires_grad and weights[5] == 1 and weights.std() > 0.01
    assert torch.equal(CDAN(dim=F, entropy=False).weights(seen), torch.ones(6, dtype=torch.float64))


def test_entropies_are_shares_of_the_largest():
    scores = torch.tensor([[0.0] * 8, [1e4] + [0.0] * 7], dtype=torch.float64)
    assert torch.allclose(normalised_entropies(scores), torch.tensor([1.0, 0.0], dtype=torch.float64))
    assert normalised_entropies(scores[:, :1]).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("pairs", ["all", "target", "chain"])
def test_wasserstein_loss_of_a_linear_critic(pairs):
    """A linear critic has the slope w everywhere: the penalty is (|w| - 1)^2."""
    term = ready(WassersteinCritic(dim=F, hidden=[], penalty=7.0, pairs=pairs), 3).double()
    seen = rows(target=1)
    x, of = seen.features.detach().numpy(), seen.domains.numpy()
    w = term.critic[0].weight.detach().numpy()  # outputs of 0-1, 0-2 and 1-2
    chosen = {
        "all": [(0, 1, 0), (0, 2, 1), (1, 2, 2)], "target": [(0, 1, 0), (2, 1, 2)], "chain": [(0, 1, 0), (1, 2, 2)]
    }[pairs]  # fmt: skip
    distances = [(x[of == a].mean(0) - x[of == b].mean(0)) @ w[i] for a, b, i in chosen]
    penalties = [(np.linalg.norm(w[i]) - 1) ** 2 for _, _, i in chosen]
    assert term.encoder_loss(seen).item() == pytest.approx(np.mean(distances), rel=1e-10)
    assert term.critic_loss(seen).item() == pytest.approx(7 * np.mean(penalties) - np.mean(distances), rel=1e-10)
    term.report(seen)
    assert {k: pytest.approx(v.item()) for k, v in term._more.items()} == {
        f"{a}-{b}": distance for (a, b, _), distance in zip(chosen, distances)
    }


def test_the_penalty_is_that_of_the_slopes_at_the_drawn_points():
    term = ready(WassersteinCritic(dim=F, hidden=[6])).double()
    x, y = rows((5, 2)).features[:5].detach(), rows((5, 2)).features[5:].detach()
    value = term.excess(x, y, 0, torch.Generator().manual_seed(3))
    g = torch.Generator().manual_seed(3)
    i, j = torch.randint(5, (5,), generator=g), torch.randint(2, (5,), generator=g)
    z = (e := torch.rand(5, 1, generator=g).double()) * x[i] + (1 - e) * y[j]
    first, second = term.critic[0], term.critic[2]
    active = torch.where(z @ first.weight.T + first.bias > 0, 1.0, 0.2)
    slopes = (active * second.weight) @ first.weight
    assert value.item() == pytest.approx((slopes.norm(dim=1) - 1).square().mean().item(), rel=1e-6)
    with torch.no_grad():
        assert term.excess(x, y, 0, torch.Generator().manual_seed(3)).item() == value.item()
    torch.nn.init.zeros_(second.weight)  # a flat critic: the length's root is at 0
    term.excess(x, y, 0, g).backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in term.parameters())


def test_the_drawn_points_change_from_step_to_step_and_with_the_seed():
    values = []
    for seed in (0, 1):
        term = ready(WassersteinCritic(dim=F, hidden=[6], seed=seed)).double()
        term.critic.load_state_dict(mlp([F, 6, 1], "relu", 5).state_dict())
        values += [term.critic_loss(rows((5, 2))).item() for _ in range(2)]
    assert len(set(values)) == 4 and term.steps == 2
    term.eval()
    assert term.critic_loss(rows((5, 2))) == term.critic_loss(rows((5, 2))) and term.steps == 2


def test_a_missing_target_and_no_target_are_told_apart():
    seen = rows((4, 3, 2))
    views = {"users": DomainViews(seen.features.float(), seen.domains, torch.arange(9))}
    term = ready(WassersteinCritic(dim=F, pairs="target"), 4)
    total, entries = term(views, target=3)
    assert total == 0 and total.requires_grad and not entries
    with pytest.raises(CrossrecError, match="pairs=target needs one target domain"):
        term(views)


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        (DANN, {"dim": 0}, "dann.dim=0 must be at least 1"),
        (DANN, {"dim": 2, "hidden": [4, 0]}, r"hidden=\[4, 0\] must be widths of 1 or more"),
        (DANN, {"dim": 2, "activation": "tanh", "name": "x"}, "adaptation.x.activation='tanh' must be relu or leaky"),
        (DANN, {"dim": 2, "goal": "fool"}, "goal='fool' must be confusion or reverse"),
        (DANN, {"dim": 2, "goal": "reverse"}, "goal='reverse' has no effect with mode=reversal"),
        (CDAN, {"dim": 2, "map": "sum"}, "map='sum' must be multilinear or randomised"),
        (CDAN, {"dim": 2, "width": 4}, "width=4 must be null, or 1 or more with map=randomised"),
        (CDAN, {"dim": 2, "entropy": "yes"}, "entropy='yes' must be true or false"),
        (WassersteinCritic, {"dim": 0}, "dim=0 must be at least 1"),
        (WassersteinCritic, {"dim": 2, "penalty": 0.0}, "penalty=0.0 must be more than 0"),
        (WassersteinCritic, {"dim": 2, "pairs": "some"}, "pairs='some' must be all, target or chain"),
    ],
)
def test_mistakes_are_told(kind, options, told):
    with pytest.raises(CrossrecError, match=told):
        kind(**options)


@pytest.mark.parametrize("kind", [DANN, CDAN, WassersteinCritic])
def test_wrong_widths_are_told(kind):
    seen = pairs_view(4, [0, 0, 1, 1])
    with pytest.raises(CrossrecError, match=r"dim=5 must be 3, the (vectors|partners)' width"):
        ready(kind(dim=5)).double()({"users": seen})


def test_wasserstein_compares_the_rows_that_it_is_told_to():
    x = rows((4, 3)).features.detach().float()
    ids = torch.tensor([0, 1, 2, 3, 0, 1, 9])  # 0 and 1 in both domains
    view = DomainViews(x, torch.tensor([0] * 4 + [1] * 3), ids)
    shared = torch.isin(ids, torch.tensor([0, 1]))
    for choice, chosen in (("overlap", shared), ("non_overlap", ~shared)):
        term = ready(WassersteinCritic(dim=F, hidden=[], weight=1.0, rows=choice, pairs="target"))
        wanted = ready(WassersteinCritic(dim=F, hidden=[], weight=1.0, pairs="target"))
        assert term({"users": view}, target=1)[0] == wanted({"users": view.take(chosen)}, target=1)[0] != 0
    nothing = ready(WassersteinCritic(dim=F, hidden=[], rows="non_overlap", pairs="target"))
    assert not nothing({"users": view.take(shared)}, target=1)[1]
    with pytest.raises(CrossrecError, match="rows=overlap is of two domains, and 3 train"):
        ready(WassersteinCritic(dim=F, rows="overlap"), 3)
