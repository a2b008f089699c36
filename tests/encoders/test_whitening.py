import pytest
import torch
from sklearn.decomposition import PCA

from crossrec.encoders.whitening import Whitening
from crossrec.errors import CrossrecError


def features(n=500, w=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, w, generator=g, dtype=torch.float64) @ torch.randn(w, w, generator=g, dtype=torch.float64) + 5


def covariance(x):
    centred = x - x.mean(0)
    return centred.T @ centred / len(x)


@pytest.mark.parametrize(("kind", "dim"), [("zca", None), ("pca", None), ("pca", 3)])
def test_covariance_becomes_the_identity(kind, dim):
    x = features()
    y = Whitening(6, kind, dim, epsilon=0.0).double().fit(x)(x)
    assert y.shape == (500, dim or 6)
    assert torch.allclose(covariance(y), torch.eye(dim or 6, dtype=torch.float64), atol=1e-8)
    assert y.mean(0).abs().max() < 1e-8


def test_default_epsilon_in_fp32_is_close():
    x = features().float()
    assert torch.allclose(covariance(Whitening(6, "zca").fit(x)(x)), torch.eye(6), atol=2e-2)


def test_zca_is_symmetric_and_the_nearest_whitening():
    x = features()
    zca, pca = (Whitening(6, kind, epsilon=0.0).double().fit(x) for kind in ("zca", "pca"))
    assert torch.allclose(zca.matrix, zca.matrix.T)
    centred = x - x.mean(0)
    assert (zca(x) - centred).square().sum() < (pca(x) - centred).square().sum()


def test_pca_keeps_the_directions_of_most_variance():
    x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 9.0, 3.0])
    matrix = Whitening(3, "pca", 2).fit(x).matrix
    assert matrix.abs().argmax(0).tolist() == [1, 2] and (matrix.max(0).values > 0).all()


@pytest.mark.parametrize("dim", [None, 3])
def test_pca_is_that_of_sklearn(dim):
    x = features()
    theirs = torch.from_numpy(PCA(dim, whiten=True).fit_transform(x)) * (500 / 499) ** 0.5  # theirs is over n - 1
    ours = Whitening(6, "pca", dim, epsilon=0.0).double().fit(x)(x)
    signs = (ours * theirs).sum(0).sign()  # of an axis they are a convention
    assert torch.allclose(ours, signs * theirs, atol=1e-8)


def test_centre_and_none():
    x = features()
    assert torch.allclose(Whitening(6, "centre").double().fit(x)(x), x - x.mean(0))
    assert Whitening(6).fit(x)(x) is x
    domains = torch.arange(len(x)) % 2  # as DomainWhitening takes them
    one, two = (Whitening(6, "zca").double() for _ in range(2))
    assert torch.equal(one.fit(x, domains)(x, domains), two.fit(x)(x))


def test_directions_without_variance_stay_silent_on_unseen_rows():
    x = features()
    x[:, 2] = 1.0
    for kind in ("zca", "pca"):
        fitted = Whitening(6, kind).double().fit(x)
        unseen = x[:1].clone()
        unseen[0, 2] = 1e3
        assert torch.allclose(fitted(unseen), fitted(x[:1]), atol=1e-6)


def test_one_constant_direction_less_than_rows():
    few = features(4)
    y = Whitening(6, "pca").double().fit(few)(few)
    assert torch.isfinite(y).all() and y.abs().max() < 10


def test_statistics_are_saved(tmp_path):
    x = features().float()
    fitted, fresh = Whitening(6, "pca", 2).fit(x), Whitening(6, "pca", 2)
    fresh.load_state_dict(fitted.state_dict())
    assert torch.equal(fresh(x), fitted(x))


def test_mistakes_are_told():
    with pytest.raises(CrossrecError, match="zca or pca"):
        Whitening(6, "bert")
    with pytest.raises(CrossrecError, match="whitening=pca"):
        Whitening(6, "zca", 3)
    with pytest.raises(CrossrecError, match="from 1 to"):
        Whitening(6, "pca", 7)
    with pytest.raises(CrossrecError, match="two training items"):
        Whitening(6, "centre").fit(features(1))
    with pytest.raises(CrossrecError, match="not finite"):
        Whitening(6, "centre").fit(torch.full((3, 6), float("nan")))
