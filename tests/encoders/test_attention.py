"""Attention pooling of histories, and what places and domains of events do to it and to the transformer."""

import numpy as np
import pytest
import torch

from crossrec.encoders.attention import AttentionEncoder
from crossrec.encoders.history_mean import HistoryMeanEncoder
from crossrec.encoders.transformer import CausalTransformerEncoder
from crossrec.errors import CrossrecError

F = 8


@pytest.fixture
def encoder(make_corpus):
    torch.manual_seed(0)
    made = AttentionEncoder(make_corpus(), dim=F, hidden=5, max_length=6)
    with torch.no_grad():  # far from the plain mean
        made.query.normal_(std=2.0)
        made.key.bias.normal_()
        made.position.normal_()
        made.domain.weight.normal_()
    return made.eval()


def batch(b=3, length=6):
    g = torch.Generator().manual_seed(1)
    return torch.randn(b, length, F, generator=g), torch.randint(0, 2, (b, length), generator=g)


def everything(b=3, length=6):
    return torch.ones(b, length, dtype=torch.bool)


def by_hand(encoder, vectors, domains):
    """States of one history (l, f), event by event."""
    p, e = encoder.position.detach().numpy(), encoder.domain.weight.detach().numpy()
    w, b, q = (t.detach().numpy() for t in (encoder.key.weight, encoder.key.bias, encoder.query))
    v, states = vectors.numpy().astype(np.float64), []
    for t in range(len(v)):
        counts = [np.exp(q @ np.tanh(w @ (v[s] + p[s] + e[domains[s]]) + b)) for s in range(t + 1)]
        states.append(sum(c * v[s] for s, c in enumerate(counts)) / sum(counts))
    return np.stack(states)


def test_states_are_the_weighted_means_of_the_formula(encoder):
    vectors, domains = batch()
    states = encoder.states(vectors, domains, everything()).detach()
    for row in range(3):
        np.testing.assert_allclose(states[row], by_hand(encoder, vectors[row], domains[row]), rtol=1e-4, atol=1e-5)
    assert (states - vectors.cumsum(1) / torch.arange(1, 7).view(1, 6, 1)).abs().max() > 0.1


def test_it_begins_near_the_plain_mean(make_corpus):
    torch.manual_seed(0)
    vectors, domains = batch()
    fresh = AttentionEncoder(make_corpus(), dim=F).states(vectors, domains, everything())
    mean = HistoryMeanEncoder(make_corpus(), dim=F).states(vectors, domains, everything())
    assert 0 < (fresh - mean).norm() < 0.05 * mean.norm()


def test_a_state_sees_only_the_past_and_padding_changes_nothing(encoder):
    vectors, domains = batch()
    before = encoder.states(vectors, domains, everything())
    later, others = vectors.clone(), domains.clone()
    later[:, 4:] += 10
    others[:, 4:] = 1 - others[:, 4:]
    after = encoder.states(later, others, everything())
    assert torch.allclose(before[:, :4], after[:, :4], atol=1e-6) and not torch.allclose(before[:, 4:], after[:, 4:])
    mask = torch.zeros(3, 6, dtype=torch.bool)
    mask[0, :3] = True  # the others are all padding
    states = encoder.states(vectors, domains, mask)
    alone = encoder.states(vectors[:1, :3], domains[:1, :3], mask[:1, :3])
    assert torch.allclose(states[0, :3], alone[0], atol=1e-6) and torch.isfinite(states).all()
    assert encoder.states(vectors[:, :0], domains[:, :0], mask[:, :0]).shape == (3, 0, F)


def test_huge_logits_stay_finite_and_pick_one_event(encoder):
    vectors, domains = batch()
    encoder.query.data *= 1e6
    states = encoder.states(vectors, domains, everything())
    nearest = (states[:, -1:] - vectors).norm(dim=2).min(1).values
    assert torch.isfinite(states).all() and nearest.max() < 1e-4


def test_gradients_are_those_of_the_formula(encoder):
    encoder = encoder.double()
    encoder.query.data *= 0.3
    vectors, domains = batch(2, 4)
    parameters = [p.detach().requires_grad_() for p in encoder.parameters()]

    def states(v, *values):
        named = dict(zip((n for n, _ in encoder.named_parameters()), values))
        inputs = (v, domains, everything(2, 4))
        return torch.func.functional_call(_States(encoder), {f"encoder.{n}": p for n, p in named.items()}, inputs)

    assert torch.autograd.gradcheck(states, (vectors.double().requires_grad_(), *parameters))


class _States(torch.nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, *inputs):
        return self.encoder.states(*inputs)


def test_own_histories_are_read_alone(make_corpus):
    torch.manual_seed(0)
    own = AttentionEncoder(make_corpus(), dim=F, max_length=6, history="own").eval()
    own.query.data.normal_()
    vectors, domains = batch()
    for wanted in (0, 1):
        made = own.states_for(vectors, domains, everything(), torch.full_like(domains, wanted))
        for row in range(3):
            places = torch.nonzero(domains[row] == wanted).flatten()
            part = own.states(
                vectors[row : row + 1, places], domains[row : row + 1, places], everything(1, len(places))
            )
            first = int(places[0])
            assert not made[row, :first].any()
            assert torch.allclose(made[row, -1], part[0, -1], atol=1e-5)


@pytest.mark.parametrize("kind", [AttentionEncoder, CausalTransformerEncoder])
@pytest.mark.parametrize("place", [False, True])
@pytest.mark.parametrize("domain", [False, True])
def test_places_and_domains_count_where_they_are_asked_for(make_corpus, kind, place, domain):
    torch.manual_seed(0)
    made = kind(make_corpus(), dim=F, max_length=6, position_embedding=place, domain_embedding=domain).eval()
    with torch.no_grad():
        if isinstance(made, AttentionEncoder):
            made.query.normal_(std=3.0)
        for table in (made.position, None if made.domain is None else made.domain.weight):
            if table is not None:
                table.normal_()
    vectors, domains = batch()
    state = made.states(vectors, domains, everything())[:, -1]
    moved = made.states(vectors, 1 - domains, everything())[:, -1]
    assert torch.equal(state, moved) != domain
    # the last event sees all others: without places their order says nothing, to one layer
    order = torch.tensor([3, 1, 4, 0, 2, 5])
    shuffled = made.states(vectors[:, order], domains[:, order], everything())[:, -1]
    if isinstance(made, AttentionEncoder):
        assert torch.allclose(state, shuffled, atol=1e-6) != place
    names = dict(made.named_parameters())
    assert ("position" in names, "domain.weight" in names) == (place, domain)
    made.states(vectors, domains, everything()).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in names.values())


def test_one_layer_without_places_reads_a_set(make_corpus):
    torch.manual_seed(0)
    vectors, domains = batch()
    order = torch.tensor([3, 1, 4, 0, 2, 5])
    for place in (False, True):
        options = {"n_layers": 1, "position_embedding": place, "max_length": 6}
        made = CausalTransformerEncoder(make_corpus(), dim=F, **options).eval()
        if place:
            made.position.data.normal_()
        both = [
            made.states(v, d, everything())[:, -1]
            for v, d in ((vectors, domains), (vectors[:, order], domains[:, order]))
        ]
        assert torch.allclose(*both, atol=1e-5) != place


def test_it_learns_what_counts(make_corpus):
    """Events of one domain say what is wanted, those of the other are noise: the weights find out."""
    torch.manual_seed(0)
    encoder = AttentionEncoder(make_corpus(), dim=F, position_embedding=False)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=0.05)
    vectors, domains = torch.randn(200, 10, F), torch.arange(10).expand(200, 10) % 2
    wanted = vectors[:, ::2].mean(1)
    for _ in range(60):
        loss = (encoder.states(vectors, domains, everything(200, 10))[:, -1] - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1 * (vectors.mean(1) - wanted).square().mean()


def test_mistakes_are_told(make_corpus, encoder):
    vectors, domains = batch(1, 7)
    with pytest.raises(CrossrecError, match=r"7 events .*max_length=6"):
        encoder.states(vectors, domains, everything(1, 7))
    with pytest.raises(CrossrecError, match=r"position_embedding=true reads .* has no order: set it to false"):
        AttentionEncoder(make_corpus(ordered=False), dim=F)
    free = AttentionEncoder(make_corpus(ordered=False), dim=F, position_embedding=False, max_length=6)
    assert free.states(vectors, domains, everything(1, 7)).shape == (1, 7, F)
    with pytest.raises(CrossrecError, match=r"user_encoder\.hidden=0 must be at least 1"):
        AttentionEncoder(make_corpus(), dim=F, hidden=0)
    with pytest.raises(CrossrecError, match="history='mine' must be mixed or own"):
        AttentionEncoder(make_corpus(), dim=F, history="mine")
