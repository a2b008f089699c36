"""What trains of a text model in each regime, what does not, and how often texts are read."""

import io

import pytest
import torch

from crossrec.encoders.feature_cache import FeatureCache
from crossrec.encoders.pretrained import PretrainedText
from crossrec.encoders.side_network import SideNetwork
from crossrec.encoders.tuning import Full, LastK, LoRA
from crossrec.errors import CrossrecError

TEXTS = ["a b", "soap for hands and hair", "x", "zz top of the world", "a b", "comb"]
REGIMES = {"full": Full, "last_k": lambda: LastK(1), "lora": LoRA, "side_network": lambda: SideNetwork(4)}


@pytest.fixture
def make(tiny, tmp_path_factory):
    cache = tmp_path_factory.mktemp("features")

    def build(tuning, kind="bert", batch_size=4, seed=0, pooling="mean"):
        torch.manual_seed(seed)
        return tuning.tower(PretrainedText(str(tiny[kind]), pooling), TEXTS, FeatureCache(cache, batch_size))

    return build


def train(tower, steps=2, lr=0.01):
    optimizer = torch.optim.Adam([p for p in tower.parameters() if p.requires_grad], lr=lr)
    aim = torch.randn(len(TEXTS), 8, generator=torch.Generator().manual_seed(3))
    for _ in range(steps):
        optimizer.zero_grad()
        (tower.train()(torch.arange(len(TEXTS))) - aim).square().mean().backward()
        optimizer.step()
    return tower


def shapes(tower):
    """Collects (texts, tokens) of every batch that the network reads."""
    seen = []
    tower.model.register_forward_pre_hook(
        lambda module, args, named: seen.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    return seen


def names_of(kind, regime, names):
    if regime in ("full", "side_network"):
        return {n for n in names if "pooler" not in n}
    if regime == "lora":
        return {n for n in names if "lora_" in n}
    top = ("encoder.layer.1.",) if kind == "bert" else ("h.1.", "ln_f.") if kind == "gpt2" else ("layers.1.", "norm.")
    return {n for n in names if n.removeprefix("model.").startswith(top)}


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("regime", REGIMES)
def test_what_a_regime_trains_moves_and_nothing_else_does(make, kind, regime):
    tower = make(REGIMES[regime](), kind)
    before = {n: p.detach().clone() for n, p in tower.named_parameters()}
    train(tower)
    moved = {n for n, p in tower.named_parameters() if not torch.equal(p, before[n])}
    expected = names_of(kind, regime, before)
    # a bias of keys changes no attention: its gradient is rounding, which may be none
    assert expected - {n for n in before if "key.bias" in n} <= moved <= expected
    assert expected == {n for n, p in tower.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("regime", REGIMES)
def test_training_begins_from_the_frozen_vectors(make, tiny, kind, regime):
    distinct = sorted(set(TEXTS), key=TEXTS.index)  # read in one batch, as the tower does: the rest is rounding
    frozen = PretrainedText(str(tiny[kind])).encode(distinct)
    made = make(REGIMES[regime](), kind, batch_size=8).train()(torch.arange(len(TEXTS)))
    atol = 1e-3 if regime == "side_network" else 1e-6  # states are cached in fp16
    assert made.dtype == torch.float32
    assert torch.allclose(made, frozen[[distinct.index(text) for text in TEXTS]], rtol=0, atol=atol)


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_all_layers_of_last_k_are_full(make, kind):
    some, every = train(make(LastK(2), kind)), train(make(Full(), kind))
    assert some.state_dict().keys() == every.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(some.parameters(), every.parameters()))
    assert not torch.allclose(train(make(LastK(1), kind))(torch.arange(6)), every(torch.arange(6)))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_no_graph_is_kept_below_the_last_layers(make, checkpointing):
    tower = make(LastK(1, gradient_checkpointing=checkpointing)).train()
    seen = []
    for layer in tower.model.encoder.layer:
        layer.register_forward_hook(lambda module, args, out: seen.append(out.requires_grad))
    tower(torch.arange(6))
    assert seen[:2] == [False, True]


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_gradient_checkpointing_computes_layers_twice_and_the_same_gradient(make, kind):
    runs = []
    for checkpointing in (False, True):
        tower, seen = make(Full(gradient_checkpointing=checkpointing), kind).train(), []
        layer = tower.model.encoder.layer[0] if kind == "bert" else tower.model.h[0]
        inner = layer.intermediate if kind == "bert" else layer.mlp
        inner.register_forward_pre_hook(lambda *_, seen=seen: seen.append(1))
        tower(torch.arange(6)).square().sum().backward()
        runs.append((len(seen), {n: p.grad for n, p in tower.named_parameters() if p.grad is not None}))
    (once, plain), (twice, again) = runs
    assert twice == 2 * once and plain.keys() <= again.keys()
    assert all(torch.allclose(again[n], plain[n], atol=1e-5) for n in plain)


def test_each_distinct_text_is_read_once_longest_first(make):
    tower = make(Full(), batch_size=2)
    seen = shapes(tower)
    vectors = tower(torch.tensor([4, 2, 0, 1, 1, 3]))  # texts 0 and 4 are one
    assert [n for n, _ in seen] == [2, 2] and seen[0][1] > seen[1][1]
    assert torch.equal(vectors[0], vectors[2]) and torch.equal(vectors[3], vectors[4])


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("kind", ["roberta", "gpt2", "llama"])
def test_a_vector_does_not_depend_on_its_batch(make, kind, pooling):
    rows = torch.tensor([3, 0, 5, 1])
    one, four = (make(Full(), kind, n, pooling=pooling)(rows) for n in (1, 4))
    assert torch.allclose(one, four, atol=1e-5)


def test_a_text_without_tokens_has_the_zero_vector_and_a_finite_gradient(tiny, tmp_path):
    tower = Full().tower(PretrainedText(str(tiny["gpt2"])), ["", "ab"], FeatureCache(tmp_path))
    vectors = tower(torch.arange(2))
    assert not vectors[0].any() and vectors[1].any()
    vectors.square().sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in tower.parameters())


def test_dropout_of_the_model_is_off_unless_it_is_asked_for(make):
    for kind in ("bert", "gpt2", "llama"):
        tower = make(Full(), kind).train()
        assert torch.equal(tower(torch.arange(6)), tower(torch.arange(6)))
        assert torch.allclose(tower(torch.arange(6)), tower.eval()(torch.arange(6)), atol=1e-6)
    tower = make(Full(model_dropout=True)).train()
    assert not torch.allclose(tower(torch.arange(6)), tower(torch.arange(6)))
    assert torch.equal(tower.eval()(torch.arange(6)), tower(torch.arange(6)))


# ---- LoRA


def test_lora_is_its_formula(make, tiny):
    tower = make(LoRA(rank=2, alpha=6))
    before = tower.model.encoder.layer[1].attention.self.value
    before.lora_B["default"].weight.data.normal_()
    x = torch.randn(3, 8)
    update = x @ before.lora_A["default"].weight.T @ before.lora_B["default"].weight.T
    assert torch.allclose(before(x), before.base_layer(x) + 6 / 2 * update, atol=1e-6)


def test_options_of_lora_have_an_effect(make):
    parts = make(LoRA(rank=3)).state_dict()
    assert {tuple(v.shape) for n, v in parts.items() if "lora_A" in n} == {(3, 8)}
    assert {n.split(".")[-4] for n in parts if "lora_A" in n} == {"query", "value"}
    assert {n.split(".")[-4] for n in make(LoRA(modules=["key"])).state_dict() if "lora_A" in n} == {"key"}
    everywhere = [n for n in make(LoRA(modules="all-linear")).state_dict() if "lora_A" in n]
    assert len(everywhere) == 12 and not any("pooler" in n for n in everywhere)
    assert make(LoRA(lr=0.5)).learning_rate == 0.5 and make(LoRA()).learning_rate is None
    one, two = (train(make(LoRA(alpha=alpha))).eval()(torch.arange(6)) for alpha in (4, 64))
    assert not torch.allclose(one, two, atol=1e-3)
    noisy = train(make(LoRA(dropout=0.5))).train()
    assert not torch.equal(noisy(torch.arange(6)), noisy(torch.arange(6)))


# ---- checkpoints


@pytest.mark.parametrize("regime", REGIMES)
def test_a_checkpoint_has_what_trains_and_the_models_key(make, regime):
    trained, fresh = train(make(REGIMES[regime]())), make(REGIMES[regime](), seed=1)
    file = io.BytesIO()
    torch.save(trained.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    weights = {n for n, p in trained.named_parameters() if p.requires_grad}
    assert set(state) == weights | {"_extra_state"} and state["_extra_state"] == trained.key
    fresh.load_state_dict(state)
    assert torch.equal(fresh.eval()(torch.arange(6)), trained.eval()(torch.arange(6)))
    whole = torch.nn.ModuleDict({"a": torch.nn.ModuleDict({"b": make(REGIMES[regime](), seed=2)})})
    whole.load_state_dict({f"a.b.{n}": v for n, v in state.items()})
    assert torch.equal(whole["a"]["b"].eval()(torch.arange(6)), trained(torch.arange(6)))
    assert set(whole.state_dict()) == {f"a.b.{n}" for n in state}


@pytest.mark.parametrize("regime", REGIMES)
def test_a_checkpoint_on_another_model_is_refused(make, regime):
    state = make(REGIMES[regime]()).state_dict()
    with pytest.raises(CrossrecError, match=r"trained on other files of item_encoder\.model"):
        make(REGIMES[regime](), pooling="cls").load_state_dict(state)
    without = {n: v for n, v in state.items() if n != "_extra_state"}
    with pytest.raises(RuntimeError, match="_extra_state"):
        make(REGIMES[regime]()).load_state_dict(without)


# ---- mistakes


def test_mistakes_are_told(make, tmp_path, monkeypatch):
    with pytest.raises(CrossrecError, match=r"tuning.k=3 must be from 1 to the 2 layers"):
        make(LastK(3))
    with pytest.raises(CrossrecError, match=r"tuning.k=0 must be"):
        make(LastK(0))
    with pytest.raises(CrossrecError, match=r"tuning.lr=0 must be more than 0"):
        Full(lr=0)
    with pytest.raises(CrossrecError, match=r"tuning.rank=0 must be"):
        LoRA(rank=0)
    with pytest.raises(CrossrecError, match=r"tuning.dropout=1 must be"):
        LoRA(dropout=1)
    with pytest.raises(CrossrecError, match=r"tuning.modules=\['nothing'\] fits no layer"):
        make(LoRA(modules=["nothing"]))
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(CrossrecError, match=r"pip install 'crossrec\[lora\]'"):
        make(LoRA())


def test_a_model_that_can_only_be_read_is_refused(tmp_path):
    class Other:
        model = "use"

    for tuning in (Full(), SideNetwork()):
        with pytest.raises(CrossrecError, match="'use' can be read only: set tuning=frozen"):
            tuning.tower(Other(), ["a"], FeatureCache(tmp_path))
