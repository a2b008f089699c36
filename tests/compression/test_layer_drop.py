import pytest
import torch

from crossrec.compression.layer_drop import LayerDrop
from crossrec.encoders.compressed import memory, read_network, write_network
from crossrec.encoders.model_parts import layers
from crossrec.errors import CrossrecError


def weights(network):
    return [next(layer.parameters()) for layer in layers(network, "x")]


@pytest.mark.parametrize("name", ["bert", "llama"])
@pytest.mark.parametrize(
    ("options", "kept"), [({"every": 2}, [0, 2]), ({"every": 3}, [0, 3]), ({"every": None, "keep": [3, 1]}, [1, 3])]
)
def test_the_chosen_layers_stay_in_their_order(apply, tmp_path, name, options, kept):
    made = apply(LayerDrop(**options, steps=0), name)
    before = weights(made.original.model.network)
    assert all(torch.equal(a, before[b]) for a, b in zip(weights(made.network), kept, strict=True))
    assert made.facts["layers kept"] == kept and made.network.config.num_hidden_layers == len(kept)
    assert memory(made.network) < 0.75 * memory(made.original.model.network)
    write_network(made.network, made.encoder.tokenizer, tmp_path)
    again = made.encoder.holding(read_network(tmp_path))
    assert torch.equal(again.encode(["ab", "c"]), made.encoder.encode(["ab", "c"]))


@pytest.mark.parametrize("loss", ["mse", "cosine"])
@pytest.mark.parametrize("name", ["bert", "llama"])
def test_distillation_teaches_the_originals_vectors(apply, name, loss):
    off = []
    for steps in (0, 80):
        made = apply(LayerDrop(steps=steps, loss=loss, lr=5e-3, batch_size=32), name)
        ours, theirs = made.vectors(), made.original.vectors
        wrong = 1 - torch.cosine_similarity(ours, theirs) if loss == "cosine" else (ours - theirs).square().sum(1)
        off.append(float(wrong.mean()))
        if steps:
            assert made.facts[f"{loss} at last"] < 0.6 * made.facts[f"{loss} at first"]
    assert off[1] < 0.6 * off[0]


def test_the_seed_and_every_option_of_distillation_count(apply):
    def made(**options):
        return apply(LayerDrop(**{"steps": 5, "lr": 1e-3, "batch_size": 16, **options})).vectors()

    first = made()
    torch.random.manual_seed(5)
    assert torch.equal(first, made())
    for options in ({"seed": 1}, {"steps": 6}, {"lr": 2e-3}, {"batch_size": 8}, {"loss": "cosine"}):
        assert not torch.equal(first, made(**options)), options


def test_the_original_stays_as_it_is_and_nothing_needs_a_gradient(apply):
    made = apply(LayerDrop(steps=2))
    assert len(weights(made.original.model.network)) == 4
    assert not any(p.requires_grad for p in made.network.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 1}, "every=1 would keep all layers"),
        ({"every": 2, "keep": [0]}, "give either every=K or keep"),
        ({"every": None}, "give either every=K or keep"),
        ({"steps": -1}, "steps=-1 must be at least 0"),
        ({"lr": 0.0}, "lr=0.0 must be more than 0"),
        ({"loss": "l1"}, "loss='l1' must be mse or cosine"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
    ],
)
def test_options_without_sense_are_refused(options, message):
    with pytest.raises(CrossrecError, match=message):
        LayerDrop(**options)


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ([4], "keep=.4. must name some of the layers 0 to 3"),
        ([-1], "0 to 3"),
        ([0, 1, 2, 3], "all 4 layers"),
        ([], "0 to 3"),
    ],
)
def test_layers_that_are_not_there_are_refused(apply, keep, message):
    with pytest.raises(CrossrecError, match=message):
        apply(LayerDrop(every=None, keep=keep, steps=0))
