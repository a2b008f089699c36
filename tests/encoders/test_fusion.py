from functools import partial

import pytest
import torch

from crossrec.encoders.base import ItemEncoder
from crossrec.encoders.fusion import FusionEncoder
from crossrec.encoders.id import IdEncoder
from crossrec.errors import CrossrecError

ITEMS = torch.tensor([[0, 3], [5, 1]])


def fuse(corpus, mode, train_items=None):
    encoders = {"id": partial(IdEncoder, untrained="zero"), "wide": partial(IdEncoder, std=1.0, untrained="zero")}
    return FusionEncoder(corpus, 4, train_items, encoders=encoders, mode=mode)


def test_sum(make_corpus):
    encoder = fuse(make_corpus(), "sum")
    parts = [e(ITEMS) for e in encoder.encoders.values()]
    assert torch.allclose(encoder(ITEMS), parts[0] + parts[1]) and encoder(ITEMS).shape == (2, 2, 4)


@pytest.mark.parametrize("mode", ["gate", "concat"])
def test_gate_and_concat_start_as_the_mean_and_are_learnt(make_corpus, mode):
    encoder = fuse(make_corpus(), mode)
    parts = [e(ITEMS) for e in encoder.encoders.values()]
    assert torch.allclose(encoder(ITEMS), (parts[0] + parts[1]) / 2, atol=1e-6)
    encoder(ITEMS).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


def test_gate_chooses_for_each_item(make_corpus):
    encoder = fuse(make_corpus(), "gate")
    encoder.mixing.map.bias.data = torch.tensor([50.0, 0.0])
    assert torch.allclose(encoder(ITEMS), encoder.encoders["id"](ITEMS))


def test_training_items_reach_every_encoder(make_corpus):
    flags = torch.tensor([True, False, True, True, True, True])
    vectors = fuse(make_corpus(), "sum", flags)(torch.arange(6))
    assert (vectors[1] == 0).all() and (vectors[0] != 0).all()


def test_mistakes_are_told(make_corpus):
    with pytest.raises(CrossrecError, match="two or more"):
        FusionEncoder(make_corpus(), encoders={"id": IdEncoder})
    with pytest.raises(CrossrecError, match="sum, gate or concat"):
        fuse(make_corpus(), "mean")


def config(group, option):
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from crossrec.config import conf_dir

    others = ["+paths.features=features", "+history_length=7", "+tuning._target_=crossrec.encoders.tuning.Frozen"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        node = compose(f"{group}/{option}", overrides=others)
    return OmegaConf.to_container(node, resolve=True)[group]


@pytest.mark.parametrize("option", ["id", "text", "id_text"])
def test_configs_build_item_encoders(make_corpus, tiny_model, tmp_path, option):
    from crossrec.config import build

    node = config("item_encoder", option)
    for part in (node, *node.get("encoders", {}).values()):
        if "model" in part:
            part["model"], part["cache_dir"] = str(tiny_model), str(tmp_path)
            part["max_length"], part["whitening_dim"] = 16, 4
    corpus = make_corpus(6, title=list("abcdef"))
    encoder = build(node)(corpus=corpus, dim=5, train_items=torch.ones(6, dtype=torch.bool))
    assert isinstance(encoder, ItemEncoder) and encoder(ITEMS).shape == (2, 2, 5)


def test_the_multilingual_encoder_differs_from_text_by_its_model_alone():
    text, use = config("item_encoder", "text"), config("item_encoder", "use")
    assert {key for key in text if text[key] != use[key]} == {"model", "pooling", "max_length"}
    assert (use["model"], use["pooling"], use["max_length"]) == ("use", None, None)


@pytest.mark.parametrize(
    ("option", "uses_history"), [("id", False), ("mean", True), ("transformer", True), ("mixed_and_own", True)]
)
def test_configs_build_user_encoders(make_corpus, option, uses_history):
    from crossrec.config import build

    encoder = build(config("user_encoder", option))(corpus=make_corpus(), dim=6)
    assert encoder.uses_history is uses_history and encoder.dim == 6
    if uses_history:
        mask = torch.ones(2, 7, dtype=torch.bool)
        zeros = torch.zeros(2, 7, dtype=torch.long)
        assert encoder.states_for(torch.randn(2, 7, 6), zeros, mask, zeros).shape == (2, 7, 6)
