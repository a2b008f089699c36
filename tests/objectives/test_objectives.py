import math

import pytest
import torch
import torch.nn.functional as F

from crossrec.errors import CrossrecError
from crossrec.objectives import softmax
from crossrec.objectives.base import Objective
from crossrec.objectives.bce import BCE
from crossrec.objectives.bpr import BPR
from crossrec.objectives.sampled_softmax import SampledSoftmax
from crossrec.objectives.softmax import FullSoftmax


def scores(m=5, n=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(m, generator=g, dtype=torch.float64), torch.randn(m, n, generator=g, dtype=torch.float64)


def test_bpr_by_hand():
    value = BPR().sampled(torch.tensor([1.0, 0.0]), torch.tensor([[0.0], [math.log(3.0)]]))
    expected = (math.log(1 + math.exp(-1)) + math.log(4)) / 2
    assert value.item() == pytest.approx(expected, rel=1e-6)


def test_bpr_gradient_of_the_difference():
    positive, negative = torch.zeros(1, requires_grad=True), torch.zeros(1, 1, requires_grad=True)
    BPR().sampled(positive, negative).backward()
    assert positive.grad.item() == pytest.approx(-0.5) and negative.grad.item() == pytest.approx(0.5)


def test_bpr_is_finite_for_huge_scores():
    assert BPR().sampled(torch.tensor([-1e4]), torch.tensor([[1e4]])).item() == pytest.approx(2e4)


@pytest.mark.parametrize("objective", [BPR(3), BCE(3), SampledSoftmax(3, correct=False)])
def test_invalid_negatives_do_not_count(objective):
    positive, negative = scores()
    mask = torch.ones(5, 3, dtype=torch.bool)
    mask[:, 2] = False
    expected = objective.sampled(positive, negative[:, :2])
    negative[:, 2] = 1e6
    assert torch.allclose(objective.sampled(positive, negative, mask=mask), expected)


@pytest.mark.parametrize("objective", [BPR(3), BCE(3), SampledSoftmax(3)])
def test_weights_are_repetitions(objective):
    positive, negative = scores()
    repeated = torch.tensor([0, 0, 0, 1, 2, 2, 3])
    weight = torch.tensor([3.0, 1.0, 2.0, 1.0, 0.0])
    weighted = objective.sampled(positive, negative, catalogue_size=9, weight=weight)
    assert torch.allclose(weighted, objective.sampled(positive[repeated], negative[repeated], catalogue_size=9))


@pytest.mark.parametrize("objective", [BPR(3), BCE(3), SampledSoftmax(3)])
def test_gradcheck(objective):
    positive, negative = scores()
    mask = torch.tensor([[1, 1, 0], [1, 1, 1], [0, 1, 0], [1, 0, 0], [1, 1, 1]], dtype=torch.bool)
    positive.requires_grad_(), negative.requires_grad_()
    torch.autograd.gradcheck(lambda p, n: objective.sampled(p, n, mask=mask, catalogue_size=9), (positive, negative))


@pytest.mark.parametrize("objective", [BPR(3), BCE(3), SampledSoftmax(3)])
def test_row_without_a_valid_negative_is_finite_and_its_gradient_too(objective):
    positive, negative = scores(2)
    positive.requires_grad_(), negative.requires_grad_()
    mask = torch.tensor([[True, True, True], [False, False, False]])
    value = objective.sampled(positive, negative, mask=mask, catalogue_size=9)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(positive.grad).all() and torch.isfinite(negative.grad).all()
    assert (negative.grad[1] == 0).all()


def test_bpr_leaves_rows_without_negatives_out_of_the_mean():
    mask = torch.tensor([[True], [False]])
    assert BPR().sampled(torch.zeros(2), torch.zeros(2, 1), mask=mask).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("objective", [BPR(1), BCE(1), SampledSoftmax(1)])
def test_no_rows_give_a_connected_zero(objective):
    positive = torch.zeros(0, requires_grad=True)
    value = objective.sampled(positive, torch.zeros(0, 2), catalogue_size=4)
    value.backward()
    assert value.item() == 0 and positive.grad is not None


def test_bce_by_hand():
    value = BCE().labelled(torch.tensor([math.log(3.0), 0.0]), torch.tensor([1.0, 0.0]))
    assert value.item() == pytest.approx((-math.log(0.75) - math.log(0.5)) / 2, rel=1e-6)


def test_bce_sampled_is_labelled_on_the_same_pairs():
    positive, negative = scores(6, 4)
    mask = torch.rand(6, 4, generator=torch.Generator().manual_seed(1)) > 0.4
    weight = torch.rand(6, generator=torch.Generator().manual_seed(2)).double()
    logits = torch.cat([positive, negative[mask]])
    labels = torch.cat([torch.ones(6), torch.zeros(int(mask.sum()))])
    rows = torch.cat([weight, weight.unsqueeze(1).expand(6, 4)[mask]])
    assert torch.allclose(BCE(4).sampled(positive, negative, mask=mask), BCE(4).labelled(logits, labels))
    assert torch.allclose(
        BCE(4).sampled(positive, negative, mask=mask, weight=weight), BCE(4).labelled(logits, labels, weight=rows)
    )


def vectors(m=9, c=7, f=3, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    users, items = torch.randn(m, f, generator=g, dtype=dtype), torch.randn(c, f, generator=g, dtype=dtype)
    return users.requires_grad_(), items.requires_grad_(), torch.randint(0, c, (m,), generator=g)


def test_softmax_by_hand():
    users = torch.tensor([[1.0]], dtype=torch.float64)
    items = torch.tensor([[0.0], [math.log(2.0)], [0.0]], dtype=torch.float64)
    target = torch.tensor([1])
    assert FullSoftmax().catalogue(users, items, target).item() == pytest.approx(math.log(2))
    assert FullSoftmax(temperature=0.5).catalogue(users, items, target).item() == pytest.approx(-math.log(4 / 6))


@pytest.mark.parametrize("held", [1, 14, 10_000])  # one row at a time, two, all at once
@pytest.mark.parametrize("weight", [None, [0.0, 1, 2, 3, 4, 5, 6, 7, 8]])
def test_softmax_is_cross_entropy(monkeypatch, held, weight):
    monkeypatch.setattr(softmax, "CPU_SCORES", held)
    users, items, target = vectors()
    rows = torch.ones(9) if weight is None else torch.tensor(weight)
    losses = F.cross_entropy(users @ items.T / 0.7, target, reduction="none")
    expected = (losses * rows).sum() / rows.sum()
    value = FullSoftmax(0.7).catalogue(users, items, target, weight=None if weight is None else rows)
    assert torch.allclose(value, expected)
    for ours, theirs in zip(
        torch.autograd.grad(3 * value, (users, items)), torch.autograd.grad(3 * expected, (users, items))
    ):
        assert torch.allclose(ours, theirs)
    assert torch.autograd.gradcheck(lambda u, v: FullSoftmax(0.7).catalogue(u, v, target, weight=rows), (users, items))


def test_softmax_of_huge_scores_and_of_no_rows():
    users, items = torch.tensor([[1e4]]), torch.tensor([[1.0], [-1.0]])
    assert FullSoftmax().catalogue(users, items, torch.tensor([1])).item() == pytest.approx(2e4)
    users, items, target = vectors()
    assert FullSoftmax().catalogue(users[:0], items, target[:0]).item() == 0
    value = FullSoftmax().catalogue(users, items, target, weight=torch.zeros(9))
    assert value.item() == 0
    assert all(float(g.abs().sum()) == 0 for g in torch.autograd.grad(value, (users, items)))


def test_softmax_under_autocast_is_near_float32():
    users, items, target = vectors(200, 300, 16, dtype=torch.float32)
    exact = FullSoftmax().catalogue(users, items, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = FullSoftmax().catalogue(users, items, target)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(exact.item(), rel=0.01)
    for ours, theirs in zip(torch.autograd.grad(value, (users, items)), torch.autograd.grad(exact, (users, items))):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() / theirs.norm() < 0.02


def test_sampled_softmax_with_every_item_is_full_softmax():
    users, items, _ = vectors(4)
    logits = users @ items.T
    target = torch.tensor([0, 3, 6, 3])
    positive = logits.gather(1, target.unsqueeze(1)).squeeze(1)
    mask = torch.arange(7) != target.unsqueeze(1)
    full = FullSoftmax(temperature=0.7).catalogue(users, items, target)
    loss = SampledSoftmax(7, temperature=0.7)
    assert torch.allclose(loss.sampled(positive, logits, mask=mask, catalogue_size=7), full)
    assert torch.allclose(loss.sampled(positive, logits, mask=mask, catalogue_size=torch.full((4,), 7)), full)


def test_corrected_partition_function_is_unbiased():
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(50, generator=g, dtype=torch.float64)
    drawn = torch.randint(1, 50, (20_000, 8), generator=g)
    loss = SampledSoftmax(8)
    first = loss.sampled(logits[:1], logits[drawn[:1]], catalogue_size=50)  # = log Z - s_pos of its estimate Z
    sampled = logits[0].exp() + logits[drawn].exp().mean(1) * 49
    assert torch.allclose((first + logits[0]).exp(), sampled[0])
    assert sampled.mean().item() == pytest.approx(logits.exp().sum().item(), rel=0.01)


def test_sampled_softmax_is_finite_for_huge_scores():
    value = SampledSoftmax(1).sampled(torch.tensor([-1e4]), torch.tensor([[1e4]]), catalogue_size=2)
    assert value.item() == pytest.approx(2e4)


def test_correction_without_a_size_names_the_mend():
    with pytest.raises(CrossrecError, match=r"objective\.correct=false"):
        SampledSoftmax(1).sampled(torch.zeros(1), torch.zeros(1, 1))


@pytest.mark.parametrize("make", [lambda: BPR(0), lambda: BCE(-1), lambda: SampledSoftmax(0), lambda: FullSoftmax(0.0)])
def test_impossible_options_are_refused(make):
    with pytest.raises(CrossrecError, match=r"objective\."):
        make()


def test_attributes_tell_the_batch_form():
    forms = [(o.batch, o.n_negatives, o.shared, o.full) for o in (BPR(2), BCE(), FullSoftmax(), SampledSoftmax(9))]
    assert forms == [
        ("pairwise", 2, False, False),
        ("pointwise", 1, False, False),
        ("pairwise", 0, False, True),
        ("pairwise", 9, True, False),
    ]


def test_missing_call_form_says_so():
    with pytest.raises(NotImplementedError, match="BPR"):
        BPR().catalogue(torch.zeros(1, 2), torch.zeros(3, 2), torch.zeros(1, dtype=torch.long))
    with pytest.raises(NotImplementedError):
        Objective().labelled(torch.zeros(1), torch.zeros(1))
