import copy
import warnings

import pytest
import torch
from torch import nn

from crossrec.encoders.int8 import DynamicLinear, RowEmbedding, WeightOnlyLinear, reads_8_bits, rounded, torchao
from crossrec.errors import CrossrecError


@pytest.fixture
def linear():
    torch.manual_seed(0)
    made = nn.Linear(48, 32)
    made.weight.data[3] *= 50  # rows of different size, which a scale for all would blur
    return made


def dynamic(linear, bits):
    return DynamicLinear(*rounded(linear.weight.detach()), linear.bias.detach(), bits)


def test_seven_bits_are_torchs_own_dynamic_quantisation_per_channel(linear):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch.ao.quantization as ao

        torchs = ao.quantize_dynamic(nn.Sequential(copy.deepcopy(linear)), {nn.Linear: ao.per_channel_dynamic_qconfig})
    theirs, mine = torchs[0].weight(), dynamic(linear, 7).tensors()
    assert (theirs.int_repr().int() - mine["weight"].int()).abs().max() <= 1  # halves may fall to either side
    assert (theirs.int_repr() == mine["weight"]).float().mean() > 0.99
    torch.testing.assert_close(theirs.q_per_channel_scales().float(), mine["scale"])
    x = torch.randn(64, 48)
    error = (torchs(x) - dynamic(linear, 7)(x)).abs().amax(0)
    assert (error <= linear.weight.abs().amax(1) / 127 * x.abs().max() + 1e-6).all()


def test_a_row_is_within_half_a_step_and_its_scale_its_own(linear):
    weight, scale = rounded(linear.weight.detach())
    assert weight.dtype == torch.int8
    torch.testing.assert_close(scale, linear.weight.detach().abs().amax(1) / 127.5)
    off = (weight * scale.unsqueeze(1) - linear.weight.detach()).abs()
    assert (off <= scale.unsqueeze(1) * (0.5 + 1e-3)).all()


def test_a_row_of_zeros_stays_one():
    weight, scale = rounded(torch.zeros(2, 4))
    assert (weight == 0).all() and torch.isfinite(1 / scale).all()


@pytest.mark.skipif(not reads_8_bits(), reason="this processor has no VNNI instructions")
def test_eight_bits_of_what_is_read_are_nearer_than_seven(linear):
    x = torch.randn(256, 48)
    exact = linear(x).detach()
    error = {bits: float((dynamic(linear, bits)(x) - exact).square().mean()) for bits in (7, 8)}
    assert error[8] < 0.6 * error[7] < 0.01 * float(exact.square().mean())


def test_layers_give_their_tensors_back(linear):
    for bias in (linear.bias.detach(), None):
        layer = DynamicLinear(*rounded(linear.weight.detach()), bias, 7)
        x = torch.randn(5, 2, 48)
        again = DynamicLinear(**{"bias": None, **layer.tensors()}, bits=7)
        assert torch.equal(again(x), layer(x)) and layer(x).shape == (5, 2, 32)


def test_an_embedding_gives_its_rows():
    table = torch.randn(20, 6) * torch.arange(1, 21).unsqueeze(1)
    layer = RowEmbedding(*rounded(table))
    ids = torch.tensor([[0, 19], [7, 7]])
    assert layer(ids).shape == (2, 2, 6)
    assert (
        (layer(ids) - table[ids]).abs() <= table[ids].abs().amax(-1, keepdim=True) / 200 + table.abs().max() / 250
    ).all()
    torch.testing.assert_close(layer(ids), (layer.weight.float() * layer.scale.unsqueeze(1))[ids])


def test_weight_only_multiplies_the_rounded_weights(linear):
    layer = WeightOnlyLinear.of(linear)
    found = layer.tensors()
    assert found["weight"].dtype == torch.int8
    x = torch.randn(7, 48)
    whole = found["weight"].float() * found["scale"].unsqueeze(1)
    torch.testing.assert_close(layer(x), x @ whole.T + linear.bias, rtol=1e-4, atol=1e-4)
    assert torch.equal(WeightOnlyLinear(**found)(x), layer(x))


def test_without_torchao_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchao", None)
    with pytest.raises(
        CrossrecError, match=r"method=int8_weight_only needs torchao: pip install 'crossrec\[torchao\]'"
    ):
        torchao()
