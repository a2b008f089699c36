"""Users read one domain at a time, and beside the whole."""

from functools import partial

import pytest
import torch

from crossrec.encoders.history_mean import HistoryMeanEncoder
from crossrec.encoders.transformer import CausalTransformerEncoder
from crossrec.encoders.user_fusion import UserFusionEncoder
from crossrec.encoders.user_id import UserIdEncoder
from crossrec.errors import CrossrecError

F = 8


def histories(b: int = 5, length: int = 7) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Vectors, domains, mask (lengths 7, 6, 1, 0, 4) and the domain wanted at each position."""
    g = torch.Generator().manual_seed(0)
    mask = torch.arange(length) < torch.tensor([7, 6, 1, 0, 4]).unsqueeze(1)
    domains = torch.randint(0, 2, (b, length), generator=g) * mask
    wanted = torch.where(mask, torch.randint(0, 2, (b, length), generator=g), -1)
    return torch.randn(b, length, F, generator=g), domains, mask, wanted


@pytest.fixture
def own(make_corpus) -> CausalTransformerEncoder:
    torch.manual_seed(0)
    return CausalTransformerEncoder(make_corpus(), dim=F, max_length=9, history="own").eval()


def test_states_are_those_of_the_domains_events_alone(own):
    vectors, domains, mask, wanted = histories()
    made = own.states_for(vectors, domains, mask, wanted)
    checked = 0
    for row in range(len(mask)):
        for t in range(mask.shape[1]):
            if wanted[row, t] < 0:
                assert not made[row, t].any()
                continue
            events = [s for s in range(t + 1) if mask[row, s] and domains[row, s] == wanted[row, t]]
            if not events:
                assert not made[row, t].any()
                continue
            part = own.states(vectors[row, events][None], domains[row, events][None], torch.ones(1, len(events)) > 0)
            assert torch.allclose(made[row, t], part[0, -1], atol=1e-5)
            checked += 1
    assert checked > 8


def test_of_one_domain_own_is_all(own):
    vectors, _, mask, _ = histories()
    none, zeros = torch.full_like(mask, -1, dtype=torch.long), torch.zeros_like(mask, dtype=torch.long)
    made = own.states_for(vectors, zeros, mask, zeros)
    assert torch.allclose(made[mask], own.states(vectors, zeros, mask)[mask], atol=1e-5)
    assert not own.states_for(vectors, zeros, mask, none).any()
    nobody = own.states_for(vectors, zeros, torch.zeros_like(mask), zeros)
    assert nobody.shape == vectors.shape and not nobody.any()


def test_events_of_another_domain_get_no_gradient(own):
    vectors, domains, mask, wanted = histories()
    vectors.requires_grad_()
    rows = torch.where(wanted == 1, own.states_for(vectors, domains, mask, wanted).sum(2), 0.0)
    rows.square().sum().backward()
    moved = vectors.grad.abs().sum(2) > 0
    assert moved.any() and not moved[(domains == 0) | ~mask].any()


def test_mean_of_own_events(make_corpus):
    encoder = HistoryMeanEncoder(make_corpus(), dim=1, history="own")
    vectors, domains = torch.tensor([[[1.0], [5.0], [3.0]]]), torch.tensor([[0, 1, 0]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    made = encoder.states_for(vectors, domains, mask, torch.tensor([[1, 0, 0]]))
    assert made.flatten().tolist() == [0.0, 1.0, 2.0]


def test_both_readings_are_mixed(make_corpus):
    torch.manual_seed(0)
    make = partial(CausalTransformerEncoder, max_length=9)
    encoders = {"mixed": make, "own": partial(make, history="own")}
    both = UserFusionEncoder(make_corpus(), F, encoders=encoders, mode="gate").eval()
    given = histories()
    parts = [encoder.states_for(*given) for encoder in both.encoders.values()]
    assert not torch.allclose(parts[0], parts[1])
    assert torch.allclose(both.states_for(*given), (parts[0] + parts[1]) / 2, atol=1e-6)
    both.states_for(*given).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in both.mixing.parameters())


def test_mistakes_are_told(make_corpus):
    with pytest.raises(CrossrecError, match=r"user_encoder\.history='mine' must be mixed or own"):
        HistoryMeanEncoder(make_corpus(), history="mine")
    with pytest.raises(CrossrecError, match=r"domain_weights=true weighs .* history=own has one only"):
        HistoryMeanEncoder(make_corpus(), domain_weights=True, history="own")
    by_id = {"mixed": CausalTransformerEncoder, "id": UserIdEncoder}
    with pytest.raises(CrossrecError, match=r"user_encoder\.encoders\.id looks users up by id"):
        UserFusionEncoder(make_corpus(), F, encoders=by_id)
    with pytest.raises(CrossrecError, match=r"user_encoder\.encoders names 1 encoders, but a fusion needs two"):
        UserFusionEncoder(make_corpus(), F, encoders={"mixed": CausalTransformerEncoder})
