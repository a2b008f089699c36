import pytest
import torch

from crossrec.evaluation import lists
from crossrec.evaluation.lists import coverage, diversity, gini, item_counts, novelty, self_information

LISTS = torch.tensor([[0, 1, 2], [0, 2, -1], [-1, -1, -1]])


def test_item_counts_per_cutoff():
    assert item_counts(LISTS, (1, 3), 4).tolist() == [[2, 0, 0, 0], [2, 1, 2, 0]]


def test_coverage_is_the_share_of_the_catalogue():
    assert coverage(item_counts(LISTS, (1, 3), 4)).tolist() == [0.25, 0.75]


def test_gini_of_closed_forms():
    assert float(gini(torch.full((10,), 3.0))) == pytest.approx(0.0, abs=1e-15)
    one = torch.zeros(10)
    one[4] = 7
    assert float(gini(one)) == pytest.approx(0.9)
    assert float(gini(torch.tensor([1.0, 2.0, 3.0]))) == pytest.approx(2 / 9)
    assert gini(torch.zeros(2, 5)).tolist() == [0.0, 0.0]


def test_gini_is_the_mean_absolute_difference():
    counts = torch.randint(20, (50,), generator=torch.Generator().manual_seed(0)).double()
    pairs = (counts.unsqueeze(0) - counts.unsqueeze(1)).abs().mean() / (2 * counts.mean())
    assert float(gini(counts)) == pytest.approx(float(pairs), abs=1e-12)


def test_novelty_is_the_mean_bits_of_the_items():
    information = self_information(torch.tensor([3, 1, 0, 0]))  # (count + 1) / 8: 1, 2, 3, 3 bits
    assert information.tolist() == pytest.approx([1, 2, 3, 3])
    assert novelty(LISTS, information, (1, 3)).tolist() == [[1, 2], [1, 2], [0, 0]]


def test_diversity_is_the_mean_over_pairs(monkeypatch):
    monkeypatch.setattr(lists, "GATHERED", 1)  # one list at a time
    generator = torch.Generator().manual_seed(2)
    vectors = torch.nn.functional.normalize(torch.randn(30, 8, generator=generator).double(), dim=1)
    made = torch.stack([torch.randperm(30, generator=generator)[:6] for _ in range(5)])
    made[1, 4:] = -1
    made[2, 1:] = -1
    found = diversity(made, vectors, (2, 6))
    for row, values in zip(made, found):
        for k, value in zip((2, 6), values):
            kept = row[:k][row[:k] != -1]
            cosines = vectors[kept] @ vectors[kept].T
            pairs = [1 - float(cosines[i, j]) for i in range(len(kept)) for j in range(i)]
            assert float(value) == pytest.approx(sum(pairs) / len(pairs) if pairs else 0.0, abs=1e-12)


def test_diversity_of_equal_and_orthogonal_items():
    vectors = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    assert diversity(torch.tensor([[0, 1], [0, 2], [0, 3]]), vectors, (2,)).flatten().tolist() == [0, 1, 1]
    assert diversity(torch.zeros((0, 2), dtype=torch.long), vectors, (2,)).shape == (0, 1)
