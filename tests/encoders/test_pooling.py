import pytest
import torch

from crossrec.encoders.pooling import POOLINGS, pool

HIDDEN = torch.tensor([[[1.0], [3.0], [float("nan")]], [[2.0], [4.0], [7.0]], [[9.0], [9.0], [9.0]]])
MASK = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 0, 0]])


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean", [2.0, 13 / 3, 0.0]),
        ("cls", [1.0, 2.0, 0.0]),
        ("last", [3.0, 7.0, 0.0]),
        ("weighted", [(1 + 2 * 3) / 3, (2 + 2 * 4 + 3 * 7) / 6, 0.0]),
    ],
)
def test_by_hand_whatever_padding_holds(pooling, expected):
    assert pool(HIDDEN, MASK, pooling).squeeze(1).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_one_token_is_itself_and_vectors_scale(pooling):
    one = torch.randn(2, 1, 3, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 1, dtype=torch.long)
    assert torch.allclose(pool(one, mask, pooling), one[:, 0])
    assert torch.allclose(pool(-2 * one, mask, pooling), -2 * pool(one, mask, pooling))
