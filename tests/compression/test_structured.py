from copy import deepcopy

import pytest
import torch

from crossrec.compression.base import Original, read_all
from crossrec.compression.blocks import blocks
from crossrec.compression.structured import Structured
from crossrec.encoders.compressed import memory
from crossrec.encoders.pretrained import PretrainedText
from crossrec.errors import CrossrecError


@pytest.mark.parametrize(("name", "groups"), [("bert", 4), ("llama", 2)])
def test_heads_and_neurons_leave_every_layer(apply, name, groups):
    made = apply(Structured(heads=0.5, neurons=0.25), name)
    for block in blocks(made.network, "x"):
        assert block.heads == groups // 2
        queries, output = made.network.get_submodule(block.queries), made.network.get_submodule(block.output)
        assert queries.weight.shape == (8, 16) and output.weight.shape == (16, 8)
        assert [made.network.get_submodule(n).weight.shape for n in block.up] == [(24, 16)] * len(block.up)
        assert made.network.get_submodule(block.down).weight.shape == (16, 24)
    assert memory(made.network) < memory(made.original.model.network)
    assert made.facts["heads out"] == f"{groups // 2 * 4} of {groups * 4}" and made.facts["neurons out"] == "32 of 128"
    assert torch.isfinite(made.vectors()).all() and made.vectors().shape == (120, 16)


@pytest.mark.parametrize("importance", ["weight", "activation"])
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_what_puts_out_nothing_goes_first_and_changes_nothing(tiny, texts, name, importance):
    model = PretrainedText(str(tiny[name]), device="cpu")
    for number, block in enumerate(blocks(model.network, "x")):
        values, output = model.network.get_submodule(block.values), model.network.get_submodule(block.output)
        size = values.out_features // block.heads
        dead = number % block.heads  # a head that gives zeros
        values.weight[dead * size : (dead + 1) * size] = 0
        if values.bias is not None:
            values.bias[dead * size : (dead + 1) * size] = 0
        assert output.in_features % block.heads == 0
        model.network.get_submodule(block.down).weight[:, [1, 5 + number]] = 0  # neurons that nobody reads
    original = Original(model, texts, lambda texts: read_all(model, texts, 16), 16)
    network = deepcopy(model.network)
    encoder = model.holding(network)
    heads = 1 / blocks(network, "x")[0].heads
    Structured(heads, 2 / 32, importance).compress(network, encoder, original)
    torch.testing.assert_close(read_all(encoder, texts, 16), original.vectors, rtol=1e-4, atol=1e-4)


def test_activation_reads_the_texts_it_is_given(apply):
    weight, few, all_of_them = (
        apply(Structured(0, 0.5, importance, texts=n)).vectors()
        for importance, n in (("weight", 1), ("activation", 1), ("activation", 2000))
    )
    assert not torch.equal(weight, all_of_them) and not torch.equal(few, all_of_them)


def test_activation_keeps_vectors_better_than_weights(apply):
    error = {}
    for importance in ("weight", "activation"):
        made = apply(Structured(0, 0.5, importance))
        error[importance] = float((made.vectors() - made.original.vectors).square().mean())
    assert error["activation"] < error["weight"]


def test_distillation_brings_vectors_back(apply):
    errors = []
    for steps in (0, 60):
        made = apply(Structured(0.5, 0.5, steps=steps, lr=3e-3, batch_size=32))
        errors.append(float((made.vectors() - made.original.vectors).square().mean()))
        assert made.facts["distillation steps"] == steps
    assert errors[1] < 0.7 * errors[0]


def test_shares_that_take_nothing_and_other_networks_are_refused(apply):
    with pytest.raises(CrossrecError, match=r"heads=0.1 and neurons=0.01 take nothing out of layers of 4 heads"):
        apply(Structured(0.1, 0.01))
    with pytest.raises(CrossrecError, match=r"layers like BERT's and Llama's in fp32, and those of .*GPT2Block"):
        apply(Structured(), "gpt2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 1.0}, "heads=1.0 must be from 0 to below 1"),
        ({"neurons": -0.5}, "neurons=-0.5 must be from 0 to below 1"),
        ({"importance": "age"}, "importance='age' must be weight or activation"),
        ({"texts": 0}, "texts=0 must be at least 1"),
        ({"steps": -1}, "steps=-1 must be at least 0"),
    ],
)
def test_options_without_sense_are_refused(options, message):
    with pytest.raises(CrossrecError, match=message):
        Structured(**options)


def test_a_head_always_stays(apply):
    made = apply(Structured(0.99, 0.99))
    assert all(block.heads == 1 for block in blocks(made.network, "x"))
