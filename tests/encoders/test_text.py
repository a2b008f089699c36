import pytest
import torch

from crossrec.encoders.text import TextEncoder
from crossrec.errors import CrossrecError

TITLES = ["alpha", "beta", None, "delta", "  ", "zeta eta", "theta", "iota"]
BODIES = ["long alpha", None, "only text", None, None, "q", "r", "s"]


@pytest.fixture
def make(make_corpus, tiny_model, tmp_path):
    def build(seed=0, corpus=None, **options):
        torch.manual_seed(seed)
        corpus = corpus or make_corpus(8, title=TITLES, text=BODIES)
        return TextEncoder(corpus, dim=4, cache_dir=tmp_path, **{"model": str(tiny_model), **options})

    return build


def test_item_without_text_has_the_missing_vector_and_only_it(make):
    encoder = make()
    assert encoder.has_text.tolist() == [True] * 4 + [False] + [True] * 3
    encoder.missing.data.fill_(3.0)
    vectors = encoder(torch.arange(8))
    assert vectors[4].tolist() == [3.0] * 4 and (vectors[:4] != 3.0).all()
    vectors[[0, 4]].sum().backward()
    assert encoder.missing.grad.tolist() == [1.0] * 4


def test_few_ids_and_many_give_the_same_vectors_in_any_shape(make):
    encoder = make(adapter="mlp", whitening="centre").eval()
    every = encoder(torch.arange(8))
    many = torch.randint(0, 8, (5, 7), generator=torch.Generator().manual_seed(0))
    assert encoder(many).shape == (5, 7, 4) and torch.allclose(encoder(many), every[many], atol=1e-6)
    assert torch.allclose(encoder(torch.tensor([[3], [1]])), every[[3, 1]].unsqueeze(1), atol=1e-6)


def test_in_evaluation_the_catalogue_is_made_once_and_again_when_a_weight_has_changed(make):
    encoder, other = make(adapter="mlp").eval(), make(seed=1, adapter="mlp")
    many = torch.arange(8).repeat(2)
    made = []
    encoder.adapter.register_forward_hook(lambda *_: made.append(0))
    with torch.inference_mode():
        first = encoder(many)
        assert torch.equal(encoder(many), first) and len(made) == 1
    assert encoder(many).requires_grad and len(made) == 2
    with torch.no_grad():
        encoder(many)
        encoder.load_state_dict(other.state_dict())
        assert torch.equal(encoder(many), other.eval()(many))
        encoder.missing.add_(1.0)
        assert (encoder(many)[4] == other.missing + 1.0).all()
        with torch.autocast("cpu"):
            assert not torch.equal(encoder(many), other(many))


def test_what_evaluation_keeps_is_forgotten_in_training(make):
    encoder = make().eval()
    many = torch.arange(8).repeat(2)
    with torch.no_grad():
        before = encoder(many)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=0.1, fused=True)  # it raises no tensor's version
    encoder.train()(torch.arange(8)).square().sum().backward()
    optimizer.step()
    with torch.no_grad():
        assert not torch.allclose(encoder.eval()(many), before)
        assert torch.equal(encoder(many), encoder(torch.arange(8)).repeat(2, 1))


def test_whitening_is_fitted_on_training_items_with_text_only(make):
    flags = torch.tensor([True, True, True, True, True, False, False, False])
    encoder = make(whitening="centre", train_items=flags)
    assert encoder.features[:4].mean(0).abs().max() < 1e-5 and encoder.features[5:].mean(0).abs().max() > 1e-2
    assert encoder.features[:4].square().mean().item() == pytest.approx(1.0, rel=1e-4)
    raw = encoder._raw[:4].float()
    assert torch.allclose(encoder.whitening.mean, raw.mean(0), atol=1e-5)


def test_whitening_per_domain_makes_each_domain_white(make_corpus, make):
    words = [a + b + c for a in "abcd" for b in "efgh" for c in "ijklmnop"]
    encoder = make(corpus=make_corpus(128, title=words), whitening="zca", per_domain=True)
    for own in encoder.features.double().split(64):
        assert own.mean(0).abs().max() < 1e-4
        covariance = own.T @ own / 64 / encoder.scale.square()
        # the model's LayerNorm leaves no variance along (1, .., 1)
        assert torch.allclose(covariance, torch.eye(8, dtype=torch.float64) - 1 / 8, atol=0.02)


@pytest.mark.parametrize("options", [{"whitening": "pca", "whitening_dim": 2}, {"whitening": "zca"}])
def test_statistics_per_domain_are_of_training_items(make_corpus, make, options):
    flags = torch.tensor([True, True, True, False, True, True, True, False])
    texts = ["a b", "c", "d e", "one", "f", "g h", "i", "two"]
    others = [*texts[:3], "nothing like it", *texts[4:7], "q"]
    one, two = (
        make(corpus=make_corpus(8, title=t), train_items=flags, per_domain=True, **options) for t in (texts, others)
    )
    assert torch.equal(one.features[flags], two.features[flags])
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values()))
    assert not torch.allclose(one.features, two.features)
    whole = make(corpus=make_corpus(8, title=texts), train_items=flags, **options)
    assert not torch.allclose(one.features, whole.features, atol=1e-2)


def test_a_domain_without_training_items_has_the_statistics_of_all(make):
    flags = torch.arange(8) < 4
    with pytest.warns(UserWarning, match="per_domain: b with fewer than two training items"):
        encoder = make(train_items=flags, whitening="centre", per_domain=True)
    assert torch.allclose(encoder.features, make(train_items=flags, whitening="centre").features, atol=1e-6)


def test_parametric_whitening_is_trained_and_fits_nothing(make):
    encoder, plain = make(whitening="parametric", whitening_dim=3), make(whitening="none")
    assert torch.equal(encoder.features, plain.features) and encoder.adapter[-1].in_features == 3
    encoder(torch.arange(8)).square().sum().backward()
    assert encoder.adapter[0].weight.grad.abs().sum() > 0 and encoder.adapter[0].bias.grad.abs().sum() > 0


def test_adapter_options_reach_the_adapter(make):
    assert len(make(adapter="moe").adapter[1].weight) == 8
    mixture = make(adapter="moe", experts=3, gate_noise=True).adapter[1]
    assert len(mixture.weight) == 3 and mixture.noise is not None


@pytest.mark.parametrize("whitening", ["none", "centre", "zca", "pca", "parametric"])
def test_vectors_start_with_length_about_one(make_corpus, make, whitening):
    words = [a + " " + b for a in "abcdefgh" for b in "ijklmnop"]
    encoder = make(corpus=make_corpus(64, title=words), whitening=whitening)
    assert 0.4 < encoder(torch.arange(64)).square().sum(1).mean().sqrt() < 2.0


def test_checkpoint_has_statistics_but_no_features_and_loading_applies_them(make):
    encoder = make(whitening="pca", whitening_dim=3, train_items=torch.arange(8) < 6)
    state = encoder.state_dict()
    assert "features" not in state and {"whitening.mean", "whitening.matrix", "scale", "missing"} <= set(state)
    other = make(seed=1, whitening="pca", whitening_dim=3)
    items = torch.arange(8)
    assert not torch.allclose(other.features, encoder.features, atol=1e-3)
    other.load_state_dict(state)
    assert torch.equal(other.features, encoder.features) and torch.equal(other(items), encoder(items))


def test_loading_a_whole_model_applies_the_statistics_too(make):
    encoder, other = make(whitening="centre", train_items=torch.arange(8) < 3), make(seed=1, whitening="centre")
    torch.nn.ModuleDict({"item": other}).load_state_dict(torch.nn.ModuleDict({"item": encoder}).state_dict())
    assert torch.equal(other.features, encoder.features)


def test_training_moves_the_adapter_only(make):
    encoder = make(whitening="zca", dropout=0.1)
    assert {n for n, _ in encoder.named_parameters()} == {"missing", "adapter.1.weight", "adapter.1.bias"}
    encoder(torch.arange(8)).square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for n, p in encoder.named_parameters() if n != "missing")


@pytest.mark.filterwarnings("ignore:7 of 7 texts were cut")
def test_template_pooling_and_prefix_reach_the_model(make, make_corpus):
    corpus = make_corpus(8, title=TITLES, text=BODIES, brand=["b", "c"] * 4)

    def features(**options):
        return make(corpus=corpus, **options)._raw

    plain = features()
    assert torch.equal(features(template="{title}"), plain)
    for options in ({"template": "{title}[ by {brand}]"}, {"pooling": "weighted"}, {"prefix": "q "}, {"max_length": 3}):
        assert not torch.allclose(features(**options), plain, atol=1e-2)
    titled = [0, 1, 3, 5, 6, 7]
    assert torch.allclose(features(template="x {title}")[titled], features(prefix="x ")[titled], atol=1e-3)


def test_mistakes_are_told(make_corpus, make):
    with pytest.raises(CrossrecError, match="item_encoder=id"):
        make(corpus=make_corpus(8))
    with pytest.raises(CrossrecError, match="item_encoder=id"):
        make(corpus=make_corpus(2, title=[None, " "]))
    with pytest.raises(CrossrecError, match="must name some of"):
        make(fields=["summary"])
    with pytest.raises(CrossrecError, match="linear, mlp, moe or none"):
        make(adapter="deep")
    with pytest.raises(CrossrecError, match="none, centre, zca, pca or parametric"):
        make(whitening="bert")
    with pytest.raises(CrossrecError, match="whitening=none has none"):
        make(per_domain=True)
    with pytest.raises(CrossrecError, match="whitening=parametric fits none"):
        make(per_domain=True, whitening="parametric")
    with pytest.raises(CrossrecError, match=r"item_encoder\.dropout=2 must be from 0 to below 1"):
        make(dropout=2)
    with pytest.raises(CrossrecError, match=r"item_encoder\.batch_size=0 must be at least 1"):
        make(batch_size=0)
    with pytest.raises(CrossrecError, match="no training item"):
        make(train_items=torch.arange(8) == 4)
