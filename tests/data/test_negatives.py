import itertools

import numpy as np
import pytest
import torch
from corpora import columns, make, random_corpus

from crossrec.data.batches import PAD
from crossrec.data.candidates import Candidates
from crossrec.data.negatives import PopularityNegatives, UniformNegatives
from crossrec.errors import CrossrecError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def chi_square(observed, expected):
    """Normalised so that about 1 is expected and 2 is very unlikely for tens of cells."""
    return float((((observed - expected) ** 2) / expected).sum() / (len(expected) - 1))


@pytest.mark.parametrize("kind", [UniformNegatives, PopularityNegatives])
def test_negatives_are_of_the_domain_and_never_positive(kind):
    corpus = random_corpus(n=900, repeats=True)
    users, items, _, _ = columns(corpus)
    negatives = kind(corpus, users, items)
    everyone = torch.arange(40).repeat_interleave(2)
    domains = torch.tensor([0, 1]).repeat(40)
    drawn = negatives.sample(everyone, domains, 500, generator())
    positive = set(zip(users.tolist(), items.tolist()))
    for user, domain, row in zip(everyone.tolist(), domains.tolist(), drawn.tolist()):
        d = corpus.domains[domain]
        free = {i for i in range(d.start, d.stop) if (user, i) not in positive}
        if kind is UniformNegatives:
            assert set(row) == free
        assert set(row) <= free


def test_uniform_negatives_are_uniform_over_the_free_items():
    corpus = random_corpus(n=900)
    users, items, _, _ = columns(corpus)
    negatives = UniformNegatives(corpus, users, items)
    drawn = negatives.sample(torch.tensor([7]), torch.tensor([1]), 200_000, generator())[0]
    free = sorted(set(range(15, 40)) - set(items[users == 7]))
    counts = np.bincount(drawn.numpy(), minlength=40)[free]
    assert chi_square(counts, np.full(len(free), 200_000 / len(free))) < 2


def test_popularity_negatives_follow_the_power_of_the_count():
    corpus = random_corpus(n=900, repeats=True)
    users, items, _, _ = columns(corpus)
    negatives = PopularityNegatives(corpus, users, items, power=0.75)
    drawn = negatives.sample(torch.tensor([7]), torch.tensor([1]), 200_000, generator())[0]
    free = np.array(sorted(set(range(15, 40)) - set(items[users == 7])))
    weights = np.bincount(items, minlength=40)[free] ** 0.75
    counts = np.bincount(drawn.numpy(), minlength=40)[free]
    assert chi_square(counts, 200_000 * weights / weights.sum()) < 2


def test_every_point_of_the_free_mass_maps_to_one_free_item():
    corpus = make([(0, 0, 1), (0, 1, 2), (0, 4, 3), (1, 2, 1), (2, 6, 1)], [5, 3])
    users, items, _, _ = columns(corpus)
    negatives = UniformNegatives(corpus, users, items)
    assert negatives.free(torch.tensor([0, 0, 2]), torch.tensor([0, 1, 1])).tolist() == [2, 3, 2]
    assert negatives.at(torch.tensor([0]), torch.tensor([0]), torch.tensor([[0, 1]])).tolist() == [[2, 3]]
    assert negatives.at(torch.tensor([1]), torch.tensor([0]), torch.arange(4)[None]).tolist() == [[0, 1, 3, 4]]
    assert negatives.at(torch.tensor([2]), torch.tensor([1]), torch.arange(2)[None]).tolist() == [[5, 7]]


@pytest.mark.parametrize("kind", [UniformNegatives, PopularityNegatives])
def test_users_who_have_everything_get_the_whole_domain_and_a_warning(kind):
    corpus = make([(0, 0, 1), (0, 1, 2), (0, 2, 3), (1, 4, 1)], [3, 3])
    users, items, _, _ = columns(corpus)
    with pytest.warns(UserWarning, match="'u0' in 'd0'"):
        negatives = kind(corpus, users, items)
    drawn = negatives.sample(torch.tensor([0, 0]), torch.tensor([0, 1]), 200, generator())
    assert set(drawn[0].tolist()) == {0, 1, 2}
    assert set(drawn[1].tolist()) <= {3, 4, 5}


@pytest.mark.parametrize("kind", [UniformNegatives, PopularityNegatives])
def test_shared_negatives_are_distinct_where_possible(kind):
    corpus = random_corpus(n=900, sizes=(5, 400))
    users, items, _, _ = columns(corpus)
    negatives = kind(corpus, users, items)
    drawn = negatives.shared(8, generator())
    assert drawn.shape == (2, 8)
    assert set(drawn[0].tolist()) <= set(range(5))
    assert len(set(drawn[1].tolist())) == 8 and drawn[1].min() >= 5
    torch.testing.assert_close(drawn, negatives.shared(8, generator()), rtol=0, atol=0)
    many = torch.stack([negatives.shared(8, generator(s))[1] for s in range(4000)]).flatten() - 5
    share = np.bincount(many.numpy(), minlength=400) / 32_000
    if kind is UniformNegatives:
        assert abs(share - 1 / 400).max() < 0.0015
    else:
        counts = np.bincount(items, minlength=405)[5:] ** 0.75
        assert np.corrcoef(share, counts)[0, 1] > 0.95


@pytest.mark.parametrize("sampling", ["uniform", "popularity"])
@pytest.mark.parametrize("n", [3, 11, 60])
def test_candidates_are_distinct_items_the_user_never_had(sampling, n):
    corpus = random_corpus(n=900, repeats=True)
    users, items, _, _ = columns(corpus)
    drawer = Candidates(corpus, sampling, np.bincount(items, minlength=40))
    everyone = torch.arange(40)
    drawn = drawer.draw(everyone, 1, n, generator())
    assert drawn.shape == (40, n)
    for user in range(40):
        free = set(range(15, 40)) - set(items[users == user].tolist())
        row = [i for i in drawn[user].tolist() if i != PAD]
        assert len(set(row)) == len(row) == min(n, len(free)) and set(row) <= free
    torch.testing.assert_close(drawn, drawer.draw(everyone, 1, n, generator()), rtol=0, atol=0)


def test_popularity_candidates_have_the_distribution_of_successive_draws():
    corpus = make([(0, 0, 1), *((u, i, 1) for u in range(1, 3) for i in range(u, 5))], [5])
    counts = np.array([50, 1, 2, 4, 60])
    drawer = Candidates(corpus, "popularity", counts)
    n = 30_000
    drawn = drawer.draw(torch.zeros(n, dtype=torch.long), 0, 2, generator())
    weights = counts**0.75
    weights[0] = 0
    weights = weights / weights.sum()
    for pair in itertools.permutations(range(1, 5), 2):
        expected = weights[pair[0]] * weights[pair[1]] / (1 - weights[pair[0]])
        observed = ((drawn[:, 0] == pair[0]) & (drawn[:, 1] == pair[1])).double().mean()
        assert abs(observed - expected) < 0.01, pair


def test_unknown_candidate_sampling_is_told():
    with pytest.raises(CrossrecError, match="candidate_sampling"):
        Candidates(random_corpus(), "zipf", np.ones(40))
