"""Item vectors from a text model that trains: what they are, and how often items are read."""

import pytest
import torch

from crossrec.encoders.pretrained import PretrainedText
from crossrec.encoders.side_network import SideNetwork
from crossrec.encoders.text import TextEncoder
from crossrec.encoders.tuning import FROZEN, Full, LastK, LoRA

TITLES = ["alpha", "beta", None, "delta", "zeta eta", "theta", "iota", "alpha"]


@pytest.fixture
def make(make_corpus, tiny_model, tmp_path):
    def build(tuning=FROZEN, seed=0, titles=TITLES, **options):
        torch.manual_seed(seed)
        corpus = make_corpus(8, title=titles)
        return TextEncoder(corpus, dim=4, cache_dir=tmp_path, model=str(tiny_model), tuning=tuning, **options)

    return build


def read(encoder):
    """Collects how many texts each call reads."""
    seen = []
    encoder.tower.register_forward_pre_hook(lambda _, rows: seen.append(len(rows[0])))
    return seen


@pytest.mark.parametrize("tuning", [Full(), LastK(1), LoRA(), SideNetwork(4)], ids=lambda t: t.name)
@pytest.mark.parametrize(
    "options",
    [
        {"whitening": "zca", "per_domain": True, "train_items": torch.arange(8) != 3},
        {"whitening": "pca", "whitening_dim": 3, "adapter": "mlp"},
        {"whitening": "parametric"},
    ],
)
def test_vectors_begin_as_the_frozen_ones(make, tiny_model, tuning, options):
    frozen, tuned = make(**options), make(tuning, **options)
    if tuning.costly:  # the cache holds fp16
        frozen._raw = torch.zeros(8, 8)
        frozen._raw[frozen.has_text] = PretrainedText(str(tiny_model)).encode([t for t in TITLES if t])
        frozen._refresh()
    tuned.missing.data.fill_(3.0)
    assert torch.equal(tuned.scale, frozen.scale)
    rows = torch.tensor([[0, 1, 3], [4, 7, 6]])
    assert torch.allclose(tuned(rows), frozen(rows), atol=1e-4)
    assert tuned(torch.tensor([2])).tolist() == [[3.0] * 4]
    assert not tuned.features.numel()


def test_vectors_are_the_adapter_of_the_whitened_scaled_state(make):
    encoder = make(LoRA(), whitening="pca", whitening_dim=3)
    x = encoder.tower(encoder.places[torch.tensor([4])])
    expected = encoder.adapter(encoder.whitening(x) * encoder.scale)
    assert torch.allclose(encoder(torch.tensor([4])), expected, atol=1e-6)


def test_a_call_reads_each_distinct_item_once(make):
    encoder = make(Full()).train()
    seen = read(encoder)
    vectors = encoder(torch.tensor([[4, 4, 1], [1, 4, 0]]))
    assert seen == [3] and vectors.shape == (2, 3, 4) and torch.equal(vectors[0, 0], vectors[1, 1])
    assert encoder(torch.zeros(2, 0, dtype=torch.long)).shape == (2, 0, 4)


def test_items_are_read_once_between_two_backward_passes(make):
    one, two = make(Full()).train(), make(Full()).train()
    seen = read(one)
    (one(torch.tensor([0, 1])).sum() + one(torch.tensor([1, 4])).square().sum()).backward()
    assert seen == [2, 1]
    (one(torch.tensor([0])).sum()).backward()  # the first graph is spent
    assert seen == [2, 1, 1]
    vectors = two(torch.tensor([0, 1, 1, 4, 0]))
    (vectors[:2].sum() + vectors[2:4].square().sum() + vectors[4].sum()).backward()
    for (name, a), b in zip(one.named_parameters(), two.parameters()):
        assert (a.grad is None) == (b.grad is None) and (a.grad is None or torch.allclose(a.grad, b.grad, atol=1e-4)), (
            name
        )


def test_an_evaluation_reads_a_catalogue_once_and_training_makes_it_anew(make):
    encoder = make(LoRA())
    optimizer = torch.optim.AdamW([p for p in encoder.parameters() if p.requires_grad], lr=0.1, fused=True)
    seen = read(encoder)
    encoder.eval()
    with torch.inference_mode():
        first = encoder(torch.tensor([0, 1, 3]))
        encoder(torch.tensor([[0, 2], [3, 0]]))
        assert seen == [4]  # the domain of these items
        encoder(torch.tensor([[0, 5], [3, 5]]))
    with torch.no_grad():  # what was kept in inference mode is of use outside of it
        assert torch.equal(encoder(torch.tensor([0, 1, 3])), first)
        encoder(torch.arange(8))
    assert seen == [4, 4]
    encoder.train()
    for _ in range(2):
        encoder(torch.arange(8)).square().sum().backward()
        optimizer.step()
    encoder.eval()
    with torch.no_grad():
        assert not torch.allclose(encoder(torch.tensor([0, 1, 3])), first)
    assert seen[2:] == [8, 8, 4]


def test_an_evaluations_vectors_are_the_same_to_the_last_bit_whatever_is_asked_first(make):
    one, two = make(LastK(1), batch_size=3).eval(), make(LastK(1), batch_size=3).eval()
    with torch.no_grad():
        pairs = torch.stack([one(torch.tensor([i])) for i in (5, 0, 7, 1, 4, 6, 3)])
        assert torch.equal(two(torch.tensor([5, 0, 7, 1, 4, 6, 3])), pairs.squeeze(1))


def test_weights_that_are_loaded_make_vectors_anew(make):
    encoder, other = make(LoRA()).eval(), make(LoRA(), seed=1).eval()
    with torch.no_grad():
        first, wanted = encoder(torch.arange(8)), other(torch.arange(8))
        encoder.load_state_dict(other.state_dict())
        assert torch.equal(encoder(torch.arange(8)), wanted) and not torch.allclose(first, wanted)


def test_without_gradient_training_mode_keeps_nothing(make):
    encoder = make(Full(model_dropout=True)).train()
    with torch.no_grad():
        assert not torch.allclose(encoder(torch.arange(8)), encoder(torch.arange(8)))


def test_a_checkpoint_of_an_encoder_has_no_frozen_weights(make):
    state = make(LastK(1), whitening="pca").state_dict()
    assert {n.split(".")[0] for n in state} == {"missing", "scale", "whitening", "adapter", "tower"}
    inside = {n for n in state if n.startswith("tower.")}
    assert all(n.startswith("tower.model.encoder.layer.1.") for n in inside - {"tower._extra_state"})


def test_what_a_regime_draws_leaves_all_else_as_in_a_frozen_run(make):
    after = []
    for tuning in (FROZEN, LastK(1), LoRA(), SideNetwork(4)):
        encoder = make(tuning)
        after.append((encoder.adapter[1].weight, torch.randn(3)))
    assert all(torch.equal(a, after[0][0]) and torch.equal(b, after[0][1]) for a, b in after)
    one, two, three = (make(LoRA(), seed=seed).tower.state_dict() for seed in (0, 0, 1))
    drawn = next(n for n in one if "lora_A" in n)
    assert torch.equal(one[drawn], two[drawn]) and not torch.equal(one[drawn], three[drawn])
