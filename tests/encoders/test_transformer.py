import pytest
import torch
from torch import nn

from crossrec.encoders.transformer import CausalTransformerEncoder
from crossrec.errors import CrossrecError


@pytest.fixture
def encoder(make_corpus):
    torch.manual_seed(0)
    return CausalTransformerEncoder(make_corpus(), dim=8, max_length=6, dropout=0.5, attention_dropout=0.5).eval()


def batch(b=3, length=6, dim=8):
    g = torch.Generator().manual_seed(1)
    return torch.randn(b, length, dim, generator=g), torch.randint(0, 2, (b, length), generator=g)


def test_state_sees_only_the_past(encoder):
    vectors, domains = batch()
    mask = torch.ones(3, 6, dtype=torch.bool)
    before = encoder.states(vectors, domains, mask)
    vectors[:, 4:] += 10
    domains[:, 4:] = 1 - domains[:, 4:]
    after = encoder.states(vectors, domains, mask)
    assert torch.allclose(before[:, :4], after[:, :4], atol=1e-6)
    assert not torch.allclose(before[:, 4:], after[:, 4:], atol=1e-2)


def test_padding_changes_nothing_and_is_finite(encoder):
    vectors, domains = batch()
    mask = torch.zeros(3, 6, dtype=torch.bool)
    mask[0, :3] = True  # the others are all padding
    states = encoder.states(vectors, domains, mask)
    alone = encoder.states(vectors[:1, :3], domains[:1, :3], mask[:1, :3])
    assert torch.allclose(states[0, :3], alone[0], atol=1e-6) and torch.isfinite(states).all()


def test_order_position_and_domain_matter(encoder):
    vectors, domains = batch(1)
    mask = torch.ones(1, 6, dtype=torch.bool)
    state = encoder.states(vectors, domains, mask)[0, -1]
    assert not torch.allclose(state, encoder.states(vectors.flip(1), domains.flip(1), mask)[0, -1], atol=1e-3)
    assert not torch.allclose(state, encoder.states(vectors, 1 - domains, mask)[0, -1], atol=1e-3)


def test_equals_torchs_own_layers_with_the_same_weights(make_corpus):
    torch.manual_seed(0)
    ours = CausalTransformerEncoder(make_corpus(), dim=8, max_length=6, domain_embedding=False).double().eval()
    vectors, domains = batch()
    x = ours.norm_in(vectors.double() + ours.position)
    for layer in ours.layers:
        theirs = (
            nn.TransformerEncoderLayer(8, 2, 32, activation="gelu", batch_first=True, norm_first=True).double().eval()
        )
        theirs.self_attn.in_proj_weight.data, theirs.self_attn.in_proj_bias.data = layer.qkv.weight, layer.qkv.bias
        theirs.self_attn.out_proj, theirs.linear1, theirs.linear2 = layer.out, layer.up, layer.down
        theirs.norm1, theirs.norm2 = layer.norm_attention, layer.norm_mlp
        x = theirs(x, src_mask=nn.Transformer.generate_square_subsequent_mask(6, dtype=torch.float64), is_causal=True)
    states = ours.states(vectors.double(), domains, torch.ones(3, 6, dtype=torch.bool))
    assert torch.allclose(states, ours.norm_out(x), atol=1e-10)


def test_dropout_acts_in_training_only(encoder):
    vectors, domains = batch()
    mask = torch.ones(3, 6, dtype=torch.bool)
    assert torch.equal(encoder.states(vectors, domains, mask), encoder.states(vectors, domains, mask))
    encoder.train()
    assert not torch.equal(encoder.states(vectors, domains, mask), encoder.states(vectors, domains, mask))


def test_learns_to_copy_the_event_before_the_last(make_corpus):
    torch.manual_seed(0)
    encoder = CausalTransformerEncoder(make_corpus(), dim=16, max_length=8, dropout=0.0)
    table = torch.randn(10, 16)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=5e-3)
    ids = torch.randint(0, 10, (256, 8))
    mask, domains = torch.ones(256, 8, dtype=torch.bool), torch.zeros(256, 8, dtype=torch.long)
    for _ in range(250):
        logits = encoder.states(table[ids], domains, mask)[:, 1:] @ table.T
        loss = nn.functional.cross_entropy(logits.reshape(-1, 10), ids[:, :-1].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (logits.argmax(-1) == ids[:, :-1]).float().mean() > 0.95


def test_mistakes_are_told(make_corpus, encoder):
    vectors, domains = batch(1, 7)
    with pytest.raises(CrossrecError, match=r"7 events .*max_length=6"):
        encoder.states(vectors, domains, torch.ones(1, 7, dtype=torch.bool))
    with pytest.raises(CrossrecError, match="divide dim=8"):
        CausalTransformerEncoder(make_corpus(), dim=8, n_heads=3)
    with pytest.raises(CrossrecError, match="user_encoder=mean"):
        CausalTransformerEncoder(make_corpus(ordered=False), dim=8)


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("n_layers", 0, "at least 1"),
        ("feedforward", 0, "at least 1"),
        ("max_length", 0, "at least 1"),
        ("dropout", 2, "from 0 to below 1"),
        ("dropout", -1, "from 0 to below 1"),
        ("attention_dropout", 1.5, "from 0 to below 1"),
    ],
)
def test_numbers_out_of_range_are_told(make_corpus, option, value, expected):
    with pytest.raises(CrossrecError, match=f"user_encoder.{option}={value} must be {expected}"):
        CausalTransformerEncoder(make_corpus(), dim=8, **{option: value})
