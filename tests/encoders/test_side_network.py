import pytest
import torch
import torch.nn.functional as F

from crossrec.encoders.feature_cache import FeatureCache
from crossrec.encoders.pretrained import PretrainedText
from crossrec.encoders.side_network import Ladder, LayerStates, SideNetwork
from crossrec.errors import CrossrecError

TEXTS = ["ab", "x y z", "comb"]


def ladder(rungs=4, n=5, w=6, width=3):
    torch.manual_seed(0)
    return Ladder(torch.randn(n, rungs, w), width, "m", "k")


def test_it_is_its_formula():
    tower = ladder()
    for p in tower.parameters():
        p.data.normal_(std=0.3)
    x = [(s - s.mean()) / (s.var(unbiased=False) + 1e-5).sqrt() for s in tower.states[2]]
    side = tower.down[0](x[0])
    for i in (1, 2, 3):
        g = 1 / (1 + torch.exp(-tower.gates[i - 1] / 0.1))
        z = g * tower.down[i](x[i]) + (1 - g) * side
        side = z + tower.blocks[i - 1][2](F.gelu(tower.blocks[i - 1][0](z)))
    expected = tower.states[2, -1] + side @ tower.up.weight.T + tower.up.bias
    assert torch.allclose(tower(torch.tensor([2]))[0], expected, atol=1e-5)


def test_it_begins_from_the_last_layers_state():
    tower = ladder()
    assert torch.equal(tower(torch.arange(5)), tower.states[:, -1])


def test_gradient_reaches_every_weight_once_the_way_out_is_open():
    tower = ladder()
    tower.up.weight.data.normal_()
    tower(torch.arange(5)).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in tower.parameters())


def test_the_layers_scale_does_not_matter_to_the_side():
    tower = ladder()
    tower.up.weight.data.normal_()
    before = tower(torch.arange(5)) - tower.states[:, -1]
    tower.states[:, :3] *= 100
    assert torch.allclose(tower(torch.arange(5)) - tower.states[:, -1], before, atol=1e-3)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_states_are_those_of_the_models_layers_and_are_cached(tiny, tmp_path, kind, monkeypatch):
    encoder, cache = PretrainedText(str(tiny[kind])), FeatureCache(tmp_path)
    tower = SideNetwork(4).tower(encoder, TEXTS, cache)
    assert tower.states.shape == (3, 3, 8) and tower.states.dtype == torch.float16
    assert torch.allclose(tower.states.float(), encoder.states(TEXTS), atol=2e-3)
    assert torch.allclose(tower.states[:, -1].float(), encoder.encode(TEXTS), atol=2e-3)
    monkeypatch.setattr(PretrainedText, "states", None)
    again = SideNetwork(4).tower(PretrainedText(str(tiny[kind])), TEXTS[::-1], cache)
    assert torch.equal(again.states.flip(0), tower.states)


def test_keys_tell_the_choices_of_layers_apart(tiny):
    encoder = PretrainedText(str(tiny["bert"]))
    keys = {encoder.key, *(LayerStates(e, n).key for e, n in ((encoder, 1), (encoder, 2)))}
    other = PretrainedText(str(tiny["bert"]), "cls")
    assert len(keys | {LayerStates(other, 1).key}) == 4
    assert LayerStates(encoder, 2).facts == {**encoder.facts, "layers": "every 2"}


def test_every_option_has_an_effect(tiny, tmp_path):
    cache = FeatureCache(tmp_path)
    build = lambda **options: SideNetwork(**options).tower(PretrainedText(str(tiny["bert"])), TEXTS, cache)  # noqa: E731
    assert build(width=5).up.in_features == 5
    assert torch.equal(build(every=2).states, build().states[:, ::2])
    assert build(lr=0.1).learning_rate == 0.1 and build().learning_rate is None
    with pytest.raises(CrossrecError, match=r"tuning.every=3 leaves only the last of the 2 layers"):
        build(every=3)
    with pytest.raises(CrossrecError, match=r"tuning\.width=0 must be at least 1"):
        build(width=0)
