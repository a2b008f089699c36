import pytest
import torch
from torch.nn.functional import cosine_similarity

from crossrec.errors import CrossrecError
from crossrec.evaluation.anisotropy import mean_cosine


def test_it_is_the_mean_over_all_pairs() -> None:
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)).double() + 1
    pairs = [float(cosine_similarity(x[i], x[j], dim=0)) for i in range(40) for j in range(40) if i != j]
    assert mean_cosine(x) == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)
    assert mean_cosine(x * torch.arange(1, 41).unsqueeze(1)) == pytest.approx(mean_cosine(x), abs=1e-12)


def test_one_direction_opposite_ones_and_zero_rows() -> None:
    assert mean_cosine(torch.ones(5, 3)) == pytest.approx(1.0)
    assert mean_cosine(torch.tensor([[1.0, 0.0], [-2.0, 0.0]])) == pytest.approx(-1.0)
    assert mean_cosine(torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 0.0]])) == pytest.approx(1 / 3)
    with pytest.raises(CrossrecError, match="needs two, there are 1"):
        mean_cosine(torch.ones(1, 3))
