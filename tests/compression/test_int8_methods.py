import pytest
import torch
from torch import nn

from crossrec.compression.int8 import Int8Dynamic, Int8WeightOnly
from crossrec.encoders.compressed import memory
from crossrec.encoders.int8 import DynamicLinear, RowEmbedding, reads_8_bits
from crossrec.errors import CrossrecError


def cosine(made):
    return float(torch.cosine_similarity(made.vectors(), made.original.vectors).mean())


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_dynamic_int8_takes_a_quarter_and_keeps_vectors(apply, name):
    made = apply(Int8Dynamic(activation_bits=7), name)
    assert cosine(made) > 0.98
    assert memory(made.network) < 0.42 * memory(made.original.model.network)
    linear = [p for n, p in made.network.named_modules() if isinstance(p, nn.Linear) and not n.startswith("pooler")]
    assert not linear and made.facts["linear layers"] == sum(
        isinstance(p, DynamicLinear) for p in made.network.modules()
    )


def test_embeddings_and_bits_have_an_effect(apply):
    plain, tables = (apply(Int8Dynamic(activation_bits=7, embeddings=e)) for e in (False, True))
    assert memory(tables.network) < memory(plain.network)
    assert tables.facts["embedding tables"] == sum(isinstance(p, RowEmbedding) for p in tables.network.modules()) == 3
    assert plain.facts["embedding tables"] == 0
    if reads_8_bits():
        finer = apply(Int8Dynamic(activation_bits=8, embeddings=False))
        assert cosine(finer) > cosine(plain)


def test_the_bits_of_this_processor_are_what_counts(monkeypatch):
    for able, bits in ((True, 8), (False, 7)):
        monkeypatch.setattr("crossrec.compression.int8.reads_8_bits", lambda able=able: able)
        assert Int8Dynamic().resolved({"activation_bits": None}) == {"activation_bits": bits}
    with pytest.raises(CrossrecError, match="activation_bits=8 overflows on this processor"):
        Int8Dynamic(activation_bits=8)


@pytest.mark.parametrize("bits", [4, 0, 16])
def test_other_bits_are_refused(bits):
    with pytest.raises(CrossrecError, match=f"activation_bits={bits} must be 7, 8 or null"):
        Int8Dynamic(activation_bits=bits)


def test_it_is_for_the_cpu_alone(apply):
    with pytest.raises(CrossrecError, match=r"int8_dynamic is for the CPU alone, and the text model runs on 'cuda:0'"):
        apply(Int8Dynamic(activation_bits=7), device="cuda:0")


def test_a_network_without_linear_layers_is_refused(apply):
    with pytest.raises(CrossrecError, match="method=int8_dynamic works on linear layers in fp32, and GPT2Model has no"):
        apply(Int8Dynamic(activation_bits=7), "gpt2")


def test_weight_only_keeps_vectors_better(apply):
    made = apply(Int8WeightOnly())
    assert cosine(made) > 0.999 and memory(made.network) < 0.42 * memory(made.original.model.network)
    assert cosine(apply(Int8WeightOnly(embeddings=False))) > cosine(made)
