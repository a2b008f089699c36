import warnings

import pytest
import torch

from crossrec.encoders.domain_whitening import DomainWhitening
from crossrec.encoders.whitening import Whitening
from crossrec.errors import CrossrecError

EYE = torch.eye(6, dtype=torch.float64)


def clouds(n=300, w=6):
    """Two domains with means and covariances of their own; (features, domains)."""
    g = torch.Generator().manual_seed(0)
    a, b = (torch.randn(n, w, generator=g, dtype=torch.float64) for _ in range(2))
    mixed = a @ torch.randn(w, w, generator=g, dtype=torch.float64) + 5
    return torch.cat([mixed, b * torch.arange(1, w + 1) - 3]), torch.arange(2).repeat_interleave(n)


def covariance(x):
    centred = x - x.mean(0)
    return centred.T @ centred / len(x)


def made(kind, dim=None, domains=("a", "b")):
    return DomainWhitening(domains, 6, kind, dim, epsilon=0.0).double()


@pytest.mark.parametrize(("kind", "dim"), [("zca", None), ("pca", None), ("pca", 3)])
def test_every_domain_has_the_identity_as_covariance_and_mean_zero(kind, dim):
    x, domains = clouds()
    y = made(kind, dim).fit(x, domains)(x, domains)
    for d in (0, 1):
        own = y[domains == d]
        assert own.shape == (300, dim or 6) and own.mean(0).abs().max() < 1e-8
        assert torch.allclose(covariance(own), EYE[: dim or 6, : dim or 6], atol=1e-8)
    whole = Whitening(6, kind, dim, epsilon=0.0).double().fit(x)(x)
    assert (covariance(whole[domains == 0]) - EYE[: dim or 6, : dim or 6]).abs().max() > 0.1  # what it is for


def test_centre_takes_each_domains_mean():
    x, domains = clouds()
    y = made("centre").fit(x, domains)(x, domains)
    assert torch.allclose(y[domains == 1], x[domains == 1] - x[domains == 1].mean(0))


def test_zca_of_a_domain_is_that_of_its_rows_alone():
    x, domains = clouds()
    alone = Whitening(6, "zca", epsilon=0.0).double().fit(x[domains == 1])
    y = made("zca").fit(x, domains)(x, domains)
    assert torch.allclose(y[domains == 1], alone(x[domains == 1]))


def test_axes_of_pca_are_the_same_in_all_domains():
    x, domains = clouds()
    whitening = made("pca", 3).fit(x, domains)
    shared = Whitening(6, "pca", 3, epsilon=0.0).double().fit(x)(x)
    assert torch.allclose(whitening.shared(x), shared)
    for matrix in (w.matrix for w in whitening.each):
        assert torch.allclose(matrix, matrix.T) and torch.linalg.eigvalsh(matrix).min() > 0  # it stretches, no rotation


def test_a_domain_without_rows_is_whitened_as_all_together_and_it_is_said():
    x, domains = clouds()
    with pytest.warns(UserWarning, match=r"per_domain: c, d with fewer than two training items"):
        whitening = made("zca", domains=("a", "b", "c", "d")).fit(
            torch.cat([x, x[:1]]), torch.cat([domains, torch.tensor([2])])
        )
    whole = Whitening(6, "zca", epsilon=0.0).double().fit(torch.cat([x, x[:1]]))
    assert torch.allclose(whitening(x, torch.full_like(domains, 3)), whole(x))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made("zca").fit(x, domains)


def test_statistics_are_saved():
    x, domains = clouds()
    fitted, fresh = made("pca", 2).fit(x, domains), made("pca", 2)
    fresh.load_state_dict(fitted.state_dict())
    assert torch.equal(fresh(x, domains), fitted(x, domains))


def test_a_kind_without_statistics_is_refused():
    with pytest.raises(CrossrecError, match="choose centre, zca or pca"):
        made("none")
