import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from crossrec.compression.blocks import blocks, keep_heads, keep_neurons
from crossrec.compression.int8 import Int8Dynamic
from crossrec.encoders.compressed import MANIFEST, WEIGHTS, manifest, memory, write_network
from crossrec.encoders.feature_cache import FeatureCache
from crossrec.encoders.pretrained import PretrainedText, load_text_model
from crossrec.encoders.text_model import open_text_model
from crossrec.encoders.tuning import Full
from crossrec.errors import CrossrecError

TEXTS = ["a small pot", "tea", "green tea in bags", "pan"]


@pytest.fixture(params=["bert", "roberta", "llama"])
def model(request, tiny):
    return PretrainedText(str(tiny[request.param]), device="cpu")


def prune(network, name="x"):
    for block in blocks(network, name):
        keep_heads(network, block, torch.tensor([block.heads - 1]))
        keep_neurons(network, block, torch.arange(0, 16, 2))


def zero(network):
    for part in network.modules():
        if isinstance(part, nn.Linear):
            part.weight.data[part.weight.abs() < part.weight.abs().median()] = 0


def int8(network):
    Int8Dynamic(activation_bits=7).compress(network, _CPU, None)


class _CPU:
    device = "cpu"


@pytest.mark.parametrize("change", [None, prune, zero, int8], ids=["as it is", "pruned", "sparse", "int8"])
def test_what_is_written_is_read(model, change, tmp_path):
    _, network = load_text_model(model.model)
    if change is not None:
        change(network)
    changed = model.holding(network)
    wanted = changed.encode(TEXTS)
    assert torch.equal(wanted, model.encode(TEXTS)) == (change is None)
    write_network(network, model.tokenizer, tmp_path)
    again = PretrainedText(str(tmp_path), device="cpu")
    assert torch.equal(again.encode(TEXTS), wanted)
    assert memory(again.network) == memory(network)
    assert again.key != model.key
    assert (again.size.parameters == model.size.parameters) == (change is not prune)


def test_a_sparse_tensor_takes_its_values_and_a_bit_for_each_place(tiny, tmp_path):
    tokenizer, network = load_text_model(str(tiny["bert"]))
    zero(network)
    write_network(network, tokenizer, tmp_path)
    stored = load_file(tmp_path / WEIGHTS)
    name = "encoder.layer.0.intermediate.dense.weight"
    weight = network.get_parameter(name)
    assert manifest(tmp_path)["sparse"][name] == [16, 8]
    assert (
        (weight == 0).any()
        and stored[f"{name}:places"].numel() == 16
        and stored[f"{name}:values"].numel() == int((weight != 0).sum())
    )
    assert "embeddings.word_embeddings.weight" in stored


def test_a_network_changed_twice_is_read(tiny, tmp_path):
    model = PretrainedText(str(tiny["bert"]), device="cpu")
    prune(model.network)
    write_network(model.network, model.tokenizer, tmp_path / "once")
    once = PretrainedText(str(tmp_path / "once"), device="cpu")
    int8(once.network)
    write_network(once.network, once.tokenizer, tmp_path / "twice")
    twice = PretrainedText(str(tmp_path / "twice"), device="cpu")
    assert torch.equal(twice.encode(TEXTS), once.encode(TEXTS))


def test_files_that_do_not_fit_are_refused(tiny, tmp_path):
    tokenizer, network = load_text_model(str(tiny["bert"]))
    write_network(network, tokenizer, tmp_path)
    stored = load_file(tmp_path / WEIGHTS)
    lost = stored.pop("encoder.layer.0.output.dense.weight")
    save_file(stored, tmp_path / WEIGHTS)
    with pytest.raises(CrossrecError, match=r"does not fit .*output\.dense\.weight.*compress again"):
        load_text_model(str(tmp_path))
    save_file({**stored, "encoder.layer.0.output.dense.weight": lost, "more": lost.clone()}, tmp_path / WEIGHTS)
    with pytest.raises(CrossrecError, match=r"does not fit .*\(more\)"):
        load_text_model(str(tmp_path))


def test_dynamic_int8_is_for_the_cpu_and_does_not_train(tiny, tmp_path, monkeypatch):
    tokenizer, network = load_text_model(str(tiny["bert"]))
    int8(network)
    write_network(network, tokenizer, tmp_path)
    with pytest.raises(CrossrecError, match=r"compressed by int8_dynamic, which is for the CPU alone, not 'cuda'"):
        PretrainedText(str(tmp_path), device="cuda")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert PretrainedText(str(tmp_path)).device == "cpu"
    with pytest.raises(CrossrecError, match="is in int8, which does not train: set tuning=frozen"):
        Full().tower(open_text_model(str(tmp_path)), TEXTS, FeatureCache(tmp_path / "cache"))


def test_eight_bits_are_refused_where_they_overflow(tiny, tmp_path, monkeypatch):
    tokenizer, network = load_text_model(str(tiny["bert"]))
    int8(network)
    write_network(network, tokenizer, tmp_path)
    about = json.loads((tmp_path / MANIFEST).read_text())
    for layer in about["int8"].values():
        layer |= {"bits": 8} if layer["kind"] == "dynamic" else {}
    (tmp_path / MANIFEST).write_text(json.dumps(about))
    monkeypatch.setattr("crossrec.encoders.compressed.reads_8_bits", lambda: False)
    with pytest.raises(CrossrecError, match=r"overflows on this processor.*compress with activation_bits=7"):
        load_text_model(str(tmp_path))
