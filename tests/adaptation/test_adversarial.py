"""What every critic shares: reversal, alternation, saved state."""

import io

import pytest
import torch

from crossrec.adaptation.adversarial import AdversarialAdaptation, CriticRows, DomainViews, reverse_gradient
from crossrec.adaptation.cdan import CDAN
from crossrec.adaptation.dann import DANN
from crossrec.adaptation.wasserstein_critic import WassersteinCritic
from crossrec.errors import CrossrecError

F = 4
KINDS = {
    "dann": lambda **o: DANN(dim=F, hidden=[5], reversal_schedule="constant", **o),
    "dann alternating": lambda **o: DANN(dim=F, hidden=[5], mode="alternating", critic_steps=2, **o),
    "dann reverse": lambda **o: DANN(dim=F, hidden=[5], mode="alternating", goal="reverse", **o),
    "cdan": lambda **o: CDAN(dim=F, hidden=[5], reversal_schedule="constant", **o),
    "cdan alternating": lambda **o: CDAN(dim=F, hidden=[5], mode="alternating", map="randomised", width=6, **o),
    "wasserstein": lambda **o: WassersteinCritic(dim=F, hidden=[5], **o),
}
REVERSAL = ["dann", "cdan"]
every = pytest.mark.parametrize("kind", list(KINDS))
reversing = pytest.mark.parametrize("kind", REVERSAL)
alternating = pytest.mark.parametrize("kind", [k for k in KINDS if k not in REVERSAL])


def make(kind, n_domains=2, **options):
    term = KINDS[kind](**options)
    term.prepare(n_domains)
    return term


def view(sizes=(7, 5), seed=0, dtype=torch.float32, offset=0.0):
    g = torch.Generator().manual_seed(seed)
    n = sum(sizes)
    vectors, partners = (offset + torch.randn(n, F, generator=g) for _ in range(2))
    domains = torch.cat([torch.full((size,), d) for d, size in enumerate(sizes)])
    vectors[domains == 1] += 1.5
    return DomainViews(
        vectors.to(dtype).requires_grad_(), domains, torch.arange(n), layers={"partner": partners.to(dtype)}
    )


def step(term, seen, **more):
    """Gradients at the vectors and at the critic, and what is logged."""
    total, entries = term({"users": seen}, **more)
    own = [p for p in term.parameters() if p.requires_grad]
    found = torch.autograd.grad(total, [seen.vectors, *own])
    return found[0], found[1:], {key.rsplit("/", 1)[1]: value for key, value in entries.items()}


def without_reversal(term, seen):
    """Gradients of the critic's loss itself."""
    loss = term.critic_loss(CriticRows(term.features(seen), seen.domains, term.weights(seen)))
    vectors, *critic = torch.autograd.grad(loss, [seen.vectors, *term.parameters()])
    return vectors, critic


@reversing
@pytest.mark.parametrize(("r", "w"), [(1.0, 1.0), (0.3, 2.0), (4.0, 0.5), (0.0, 1.0)])
def test_reversal_turns_the_vectors_gradient_and_not_the_critics(kind, r, w):
    term, seen = make(kind, weight=w, reversal=r), view()
    vectors, critic, _ = step(term, seen)
    plain_vectors, plain_critic = without_reversal(term, seen)
    assert plain_vectors.abs().max() > 1e-3 and min(g.abs().max() for g in plain_critic) > 1e-3
    assert torch.allclose(vectors, -r * w * plain_vectors, atol=1e-7)
    assert all(torch.allclose(got, w * plain, atol=1e-7) for got, plain in zip(critic, plain_critic))


@reversing
def test_the_reversal_has_a_schedule_of_its_own(kind):
    term, seen = make(kind), view()
    term.reversal_schedule = lambda p: 10 * p
    term.schedule = lambda p: 1 + p
    for progress in (0.0, 0.5):
        vectors, critic, _ = step(term, seen, progress=progress)
        plain_vectors, plain_critic = without_reversal(term, seen)
        assert torch.allclose(vectors, -10 * progress * (1 + progress) * plain_vectors, atol=1e-6)
        assert torch.allclose(critic[0], (1 + progress) * plain_critic[0], atol=1e-6)


def test_reverse_gradient_is_the_identity_forwards():
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), requires_grad=True)
    assert torch.equal(reverse_gradient(x, 0.5), x)
    (reverse_gradient(x, 0.5) * 3).sum().backward()
    assert torch.equal(x.grad, torch.full((3, 2), -1.5))


@every
def test_at_weight_0_neither_learns_and_the_loss_is_logged(kind):
    term, seen = make(kind, weight=0.0), view()
    before = [p.clone() for p in term.parameters()]
    vectors, critic, entries = step(term, seen)
    assert vectors.abs().max() == 0 and all(g.abs().max() == 0 for g in critic)
    assert all(torch.equal(a, b) for a, b in zip(before, term.parameters()))
    assert entries["critic"] != 0 and term.get_extra_state() == {}


@every
def test_every_parameter_of_the_critic_moves_and_its_output_is_not_constant(kind):
    term, seen = make(kind), view()
    optimizer = torch.optim.SGD([p for p in term.parameters() if p.requires_grad] or [seen.vectors], lr=0.1)
    before = {name: p.detach().clone() for name, p in term.critic.named_parameters()}
    for _ in range(3):
        optimizer.zero_grad()
        term({"users": seen})[0].backward()
        optimizer.step()
    # a shift of all outputs has no part in a Wasserstein distance or its penalty
    still = ["2.bias"] if kind == "wasserstein" else []
    assert [n for n, p in term.critic.named_parameters() if torch.equal(p, before[n])] == still
    assert term.critic(term.features(seen)).std(0).min() > 1e-3


@alternating
def test_alternating_keeps_the_critic_out_of_the_strategys_optimizer(kind):
    term, seen = make(kind), view()
    for _ in range(2):
        term({"users": seen})[0].backward()
        assert not any(p.requires_grad for p in term.parameters())
        assert all(p.grad is None for p in term.parameters())
    assert seen.vectors.grad.abs().max() > 1e-3


@alternating
def test_the_critic_is_taught_in_training_only(kind):
    term, seen = make(kind), view()
    before = [p.clone() for p in term.parameters()]
    term.eval()
    values = [term({"users": seen})[1] for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(before, term.parameters()))
    assert values[0] == values[1] and term.get_extra_state() == {}


def test_the_critics_own_steps_are_adam_on_its_loss():
    seen = view()
    term, twin = make("dann alternating"), make("dann")
    optimizer = torch.optim.Adam(twin.parameters(), lr=1e-3, betas=(0.5, 0.9))
    for _ in range(2):
        _, critic = without_reversal(twin, seen)
        for p, g in zip(twin.parameters(), critic):
            p.grad = g
        optimizer.step()
    _, _, entries = step(term, seen)
    assert all(torch.equal(p, q) for p, q in zip(term.parameters(), twin.parameters()))
    first = make("dann")({"users": seen})[1]["adaptation/dann/critic"]
    assert torch.equal(entries["critic"], first)


@every
@pytest.mark.parametrize("sizes", [(1, 1), (1, 6), (6, 0), (0, 0), (3, 0, 1), (2, 3, 4)])
def test_small_and_missing_domains_are_finite_and_connected(kind, sizes):
    term, seen = make(kind, n_domains=max(2, len(sizes))), view(sizes)
    vectors, critic, entries = step(term, seen)
    assert all(torch.isfinite(g).all() for g in (vectors, *critic, *entries.values()))
    if sum(size > 0 for size in sizes) < 2:
        assert vectors.abs().sum() == 0 and not term.compared and not any(entries.values())
    else:
        assert vectors.abs().sum() > 0 and term.compared


@every
def test_a_saved_term_takes_the_next_step_of_the_one_that_went_on(kind):
    def train(term, optimizer, seeds):
        for seed in seeds:
            optimizer.zero_grad()
            value, entries = term({"users": view(seed=seed)})
            value.backward()
            optimizer.step()
        return entries

    def optimizer_of(term):
        own = [p for p in term.parameters() if p.requires_grad]
        return torch.optim.Adam(own or [torch.nn.Parameter(torch.zeros(1))], lr=0.01)

    whole = make(kind)
    optimizer = optimizer_of(whole)
    train(whole, optimizer, range(3))
    file = io.BytesIO()
    torch.save({"term": whole.state_dict(), "optimizer": optimizer.state_dict()}, file)
    live = whole.state_dict()
    file.seek(0)
    state = torch.load(file, weights_only=True)
    resumed, copied = make(kind, seed=7), make(kind, seed=7)
    resumed.seed = copied.seed = whole.seed  # of the critic's first values no trace is left
    copied.load_state_dict(live)
    resumed.load_state_dict(state["term"])
    again = optimizer_of(resumed)
    again.load_state_dict(state["optimizer"])
    want, got = train(whole, optimizer, [3, 4]), train(resumed, again, [3, 4])
    assert want == got
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters()))
    third = make(kind, seed=7)
    third.load_state_dict(resumed.state_dict())
    train(copied, optimizer_of(copied), [5])  # another's live state is copied, not shared
    assert all(torch.equal(a, b) for a, b in zip(third.parameters(), resumed.parameters()))
    assert flat(third.get_extra_state()) == flat(resumed.get_extra_state())


def flat(state):
    return {k: {n: float(v.sum()) for n, v in s.items()} for k, s in state.get("state", {}).items()}


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("dann", {"mode": "both"}, "dann.mode='both' must be reversal or alternating"),
        ("dann", {"reversal": -1.0}, "reversal=-1.0 must be at least 0"),
        ("dann", {"reversal": float("nan")}, "must be at least 0"),
        ("wasserstein", {"critic_steps": 0}, "wassersteincritic.critic_steps=0 must be a whole number from 1 on"),
        ("wasserstein", {"critic_steps": 2.7}, "critic_steps=2.7 must be a whole number from 1 on"),
        ("wasserstein", {"critic_lr": 0.0}, "must be more than 0"),
        ("dann", {"critic_steps": 3}, "critic_steps=3 has no effect with mode=reversal: set mode=alternating"),
        ("dann", {"critic_lr": 0.1, "name": "x"}, "adaptation.x.critic_lr=0.1 has no effect with mode=reversal"),
        ("dann alternating", {"reversal": 0.5}, "reversal=0.5 has no effect with mode=alternating"),
        ("dann alternating", {"reversal_schedule": "linear"}, "has no effect with mode=alternating"),
    ],
)
def test_mistakes_are_told(kind, options, told):
    with pytest.raises(CrossrecError, match=told):
        make(kind, **options)


def test_a_critic_of_ones_own_needs_two_methods():
    class Means(AdversarialAdaptation):
        def build_critic(self, n_domains):
            return torch.nn.Linear(F, 1)

        def critic_loss(self, rows):
            return -rows.domain_means(self.critic(rows.features).squeeze(1)).diff().squeeze()

    term = Means(mode="alternating")
    term.prepare(2)
    with torch.no_grad():
        term.critic.weight.fill_(1.0)
    seen = view()
    vectors, _, entries = step(term, seen)
    means = [seen.vectors[seen.domains == d].sum(1).mean() for d in (0, 1)]
    assert entries["critic"].item() == pytest.approx((means[0] - means[1]).item(), abs=1e-6)
    assert torch.allclose(vectors[0], -term.critic.weight.detach()[0] / 7) and (vectors[7:] > 0).all()
