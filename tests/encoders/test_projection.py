import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from crossrec.encoders.feature_cache import FeatureCache
from crossrec.encoders.item_features import item_features
from crossrec.encoders.pretrained import PretrainedText
from crossrec.encoders.projection import ProjectedText, Projection
from crossrec.encoders.text_model import open_text_model
from crossrec.errors import CrossrecError

TEXTS = ["a small pot", "tea", "green tea in bags", "pan", "kettle", "cocoa"]


@pytest.fixture
def vectors():
    torch.manual_seed(0)
    return torch.randn(50, 8) @ torch.randn(8, 8) + 3


def test_it_is_scikit_learns_pca(vectors):
    mine, theirs = Projection.fit(vectors, 3), PCA(3).fit(vectors.numpy())
    assert mine.explained == pytest.approx(theirs.explained_variance_ratio_.sum(), abs=1e-5)
    made, wanted = mine.down(vectors), torch.from_numpy(theirs.transform(vectors.numpy()))
    torch.testing.assert_close(made.abs(), wanted.abs(), rtol=1e-3, atol=1e-3)
    back = torch.from_numpy(theirs.inverse_transform(theirs.transform(vectors.numpy())))
    torch.testing.assert_close(mine.up(made), back, rtol=1e-3, atol=1e-3)


def test_all_components_lose_nothing_and_the_mean_is_the_origin(vectors):
    whole = Projection.fit(vectors, 8)
    torch.testing.assert_close(whole.up(whole.down(vectors)), vectors, rtol=1e-4, atol=1e-4)
    assert whole.explained == pytest.approx(1)
    torch.testing.assert_close(whole.down(vectors).mean(0), torch.zeros(8), atol=1e-4, rtol=0)


def test_a_refit_of_turned_rows_is_the_same_map(vectors):
    torch.testing.assert_close(Projection.fit(vectors.flip(0), 3).directions, Projection.fit(vectors, 3).directions)


@pytest.fixture
def projected(tiny, tmp_path):
    inner = PretrainedText(str(tiny["bert"]), device="cpu")
    Projection.fit(inner.encode(TEXTS), 3).save(tmp_path / "pca", str(tiny["bert"]), inner.key)
    return tmp_path / "pca", inner


def test_the_cache_holds_components_and_items_get_what_they_stand_for(projected, make_corpus, tmp_path):
    folder, inner = projected
    model = open_text_model(str(folder))
    assert isinstance(model, ProjectedText) and model.key != inner.key
    assert model.encode(TEXTS).shape == (6, 3) and model.facts["components"] == 3
    corpus = make_corpus(title=TEXTS)
    found = item_features(corpus, cache_dir=tmp_path / "cache", model=str(folder))
    assert FeatureCache(tmp_path / "cache").encode(TEXTS, model).shape == (6, 3)
    wanted = model.projection.up(model.projection.down(inner.encode(TEXTS)))
    assert found.vectors.shape == (6, 8)
    np.testing.assert_allclose(found.vectors, wanted.numpy(), atol=0.02)
    assert model.size.bytes > inner.size.bytes


def test_another_map_is_another_key_and_another_model_is_refused(projected):
    folder, inner = projected
    first = open_text_model(str(folder)).key
    Projection.fit(inner.encode(TEXTS[:4]), 3).save(folder, inner.model, inner.key)
    assert open_text_model(str(folder)).key != first
    with pytest.raises(CrossrecError, match=r"fitted on vectors of other files .*compress again"):
        open_text_model(str(folder), prefix="query: ")
