import pytest
import torch
from torch.nn.functional import softplus

from crossrec.encoders.adapters import MixtureAdapter, ParametricWhitening, make_adapter
from crossrec.errors import CrossrecError


def features(n=5, w=6):
    return torch.randn(n, w, generator=torch.Generator().manual_seed(1))


def build(kind, **options):
    torch.manual_seed(0)
    return torch.nn.Sequential(*make_adapter(kind, 6, 4, **options))


def test_parametric_whitening_is_its_formula():
    layer = ParametricWhitening(6, 3)
    layer.bias.data = torch.arange(6.0)
    x = features()
    assert torch.allclose(layer(x), torch.stack([(row - layer.bias) @ layer.weight for row in x]), atol=1e-6)


def test_parametric_whitening_keeps_the_root_mean_square():
    torch.manual_seed(0)
    assert ParametricWhitening(200, 100)(features(400, 200)).square().mean().item() == pytest.approx(1.0, rel=0.05)


def test_mixture_is_the_gated_sum_of_its_maps():
    adapter = MixtureAdapter(6, 4, experts=3)
    for p in adapter.parameters():
        p.data.normal_()
    x = features()
    gates = (x @ adapter.gate).softmax(-1)
    maps = torch.stack([(x - b) @ w for b, w in zip(adapter.bias, adapter.weight)], 1)
    assert torch.allclose(adapter(x), (gates.unsqueeze(-1) * maps).sum(1), atol=1e-5)
    assert torch.allclose(adapter(x.view(5, 1, 6)), adapter(x).unsqueeze(1), atol=1e-6)


def test_gates_are_equal_at_first():
    adapter, x = MixtureAdapter(6, 4, experts=3), features()
    assert torch.allclose(adapter(x), x @ adapter.weight.mean(0), atol=1e-6)


def test_gate_noise_is_in_training_alone_and_repeats_with_the_steps_state():
    adapter, x = MixtureAdapter(6, 4, experts=3, noise=True), features()
    still = adapter.eval()(x)
    assert torch.equal(still, adapter(x))
    adapter.train()
    torch.manual_seed(5)
    first, second = adapter(x), adapter(x)
    assert not torch.equal(first, second) and not torch.equal(first, still)
    torch.manual_seed(5)
    assert torch.equal(adapter(x), first)
    torch.manual_seed(5)
    gates = (torch.randn(5, 3) * softplus(torch.zeros(()))).softmax(-1)  # N is zero at first
    assert torch.allclose(first, torch.einsum("nk,nw,kwf->nf", gates, x, adapter.weight), atol=1e-5)


def test_gradient_reaches_every_parameter():
    for options in ({"kind": "linear"}, {"kind": "mlp"}, {"kind": "moe", "gate_noise": True}):
        adapter = build(**options)
        adapter(features()).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in adapter.parameters()), options


def test_gradient_is_that_of_differences():
    torch.manual_seed(0)
    adapter = MixtureAdapter(3, 2, experts=2).double()
    for p in adapter.parameters():
        p.data.normal_()
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: adapter(x), x)


@pytest.mark.parametrize("kind", ["linear", "mlp", "moe"])
def test_vectors_start_with_length_about_one(kind):
    torch.manual_seed(0)
    adapter = torch.nn.Sequential(*make_adapter(kind, 64, 32))
    assert 0.3 < adapter(features(500, 64)).square().sum(1).mean().sqrt() < 2.0


def test_every_option_has_an_effect():
    x = features()
    vectors = [
        build("linear").train()(x), build("mlp")(x), build("moe")(x), build("moe", experts=2)(x),
        build("moe", gate_noise=True)(x), build("linear", dropout=0.5)(x),
    ]  # fmt: skip
    assert all(not torch.allclose(a, b) for i, a in enumerate(vectors) for b in vectors[:i])


def test_none_is_the_features_themselves():
    x = features()
    assert torch.equal(build("none")(x), x) and not list(build("none").parameters())
    assert not torch.equal(build("none", dropout=0.5).train()(x), x)


def test_mistakes_are_told():
    with pytest.raises(CrossrecError, match="linear, mlp, moe or none"):
        make_adapter("deep", 6, 4)
    with pytest.raises(CrossrecError, match=r"experts=4 goes with item_encoder\.adapter=moe, not mlp"):
        make_adapter("mlp", 6, 4, experts=4)
    with pytest.raises(CrossrecError, match=r"gate_noise=true goes with item_encoder\.adapter=moe, not linear"):
        make_adapter("linear", 6, 4, gate_noise=True)
    with pytest.raises(CrossrecError, match="2 or more"):
        make_adapter("moe", 6, 4, experts=1)
    with pytest.raises(CrossrecError, match="from 1 to"):
        ParametricWhitening(6, 7)
