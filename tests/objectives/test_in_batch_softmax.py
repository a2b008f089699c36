"""The positives of a batch as one another's negatives."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from crossrec.errors import CrossrecError
from crossrec.objectives import in_batch_softmax
from crossrec.objectives.base import InBatchRows
from crossrec.objectives.in_batch_softmax import InBatchSoftmax, contrast

COUNTS = torch.tensor([5, 1, 3, 9, 2])


def rows(seed: int = 0, dtype: torch.dtype = torch.float64) -> InBatchRows:
    """Seven rows of three users and five items; items 1 and 3 are one entity, and user 0 is shown with entity 4 too."""
    g = torch.Generator().manual_seed(seed)
    users, items = (torch.randn(7, 4, generator=g, dtype=dtype).requires_grad_() for _ in range(2))
    ids, owners = torch.tensor([0, 1, 2, 3, 4, 0, 2]), torch.tensor([0, 0, 1, 1, 2, 2, 1])
    entities = torch.tensor([0, 7, 2, 7, 4])[ids]
    events = torch.cat([torch.stack([owners, entities], 1), torch.tensor([[0, 4], [0, 99]])])
    return InBatchRows(users, items, ids, entities, owners, events)


def by_hand(batch: InBatchRows, loss: InBatchSoftmax, counts: torch.Tensor, weight: Any = None) -> float:
    """The formula, row by row in numpy."""
    users, items = (v.detach().double().numpy() for v in (batch.users, batch.items))
    if loss.normalize:
        users, items = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (users, items))
    q = (counts / counts.sum()).double().numpy() if loss.logq else np.ones(len(counts))
    known = {(int(u), int(e)) for u, e in batch.events}
    values = []
    for i in range(len(users)):
        terms, own = [], float(users[i] @ items[i]) / loss.temperature - np.log(q[batch.ids[i]])
        for j in range(len(users)):
            same = int(batch.entities[j]) == int(batch.entities[i])
            seen = loss.mask_history and (int(batch.owners[i]), int(batch.entities[j])) in known
            if j == i or not (same or seen):
                terms.append(float(users[i] @ items[j]) / loss.temperature - np.log(q[batch.ids[j]]))
        values.append(np.log(np.exp(terms).sum()) - own)
    return float(np.average(values, weights=weight))


def value(batch: InBatchRows, loss: InBatchSoftmax, weight: torch.Tensor | None = None) -> torch.Tensor:
    loss.prepare(COUNTS)
    return loss.in_batch(replace(batch, users=loss.scored(batch.users), items=loss.scored(batch.items)), weight=weight)


@pytest.mark.parametrize("mask_history", [True, False], ids=["history masked", "history kept"])
@pytest.mark.parametrize("logq", [True, False], ids=["logq", "biased"])
@pytest.mark.parametrize("normalize", [True, False], ids=["cosine", "inner"])
def test_it_is_the_formula(normalize: bool, logq: bool, mask_history: bool) -> None:
    loss, batch = InBatchSoftmax(0.5, normalize, logq, mask_history), rows()
    assert value(batch, loss).item() == pytest.approx(by_hand(batch, loss, COUNTS), rel=1e-6)
    weight = torch.tensor([1.0, 0.0, 2.0, 0.5, 1.0, 3.0, 0.0])
    weighted = value(batch, loss, weight).item()
    assert weighted == pytest.approx(by_hand(batch, loss, COUNTS, weight.numpy()), rel=1e-6)


@pytest.mark.parametrize("option", ["temperature", "normalize", "logq", "mask_history"])
def test_every_option_has_an_effect(option: str) -> None:
    other: dict[str, Any] = {"temperature": 0.2, "normalize": False, "logq": False, "mask_history": True}
    here, there = InBatchSoftmax(0.5), InBatchSoftmax(**{"temperature": 0.5, option: other[option]})
    assert value(rows(), here).item() != pytest.approx(value(rows(), there).item(), rel=1e-3)


@pytest.mark.parametrize("mask_history", [True, False])
def test_gradcheck(mask_history: bool) -> None:
    loss, batch = InBatchSoftmax(0.7, mask_history=mask_history), rows()

    def of(users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        return value(replace(batch, users=users, items=items), loss)

    assert torch.autograd.gradcheck(of, (batch.users, batch.items))


def test_a_large_batch_is_scored_in_parts_to_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    loss, batch = InBatchSoftmax(0.5, mask_history=True), rows()
    whole = value(batch, loss)
    expected = torch.autograd.grad(whole, (batch.users, batch.items))
    monkeypatch.setattr(in_batch_softmax, "SCORES", 15)  # two rows at a time
    parts = value(batch, loss)
    got = torch.autograd.grad(parts, (batch.users, batch.items))
    assert torch.allclose(parts, whole) and all(torch.allclose(a, b) for a, b in zip(got, expected))


def test_distinct_items_without_correction_are_cross_entropy() -> None:
    g = torch.Generator().manual_seed(0)
    users, items, ids = torch.randn(6, 3, generator=g), torch.randn(6, 3, generator=g), torch.arange(6)
    loss = InBatchSoftmax(0.3, normalize=False, logq=False)
    made = loss.in_batch(InBatchRows(users, items, ids, ids, ids, torch.stack([ids, ids], 1)))
    assert torch.allclose(made, F.cross_entropy(users @ items.T / 0.3, ids))


@pytest.mark.parametrize("loss", [InBatchSoftmax(), InBatchSoftmax(normalize=False, mask_history=True)])
def test_one_row_and_rows_of_one_item_have_no_negative_and_no_gradient(loss: InBatchSoftmax) -> None:
    batch = rows()
    one = InBatchRows(*(getattr(batch, name)[:1] for name in ("users", "items", "ids", "entities", "owners", "events")))
    same = replace(batch, ids=torch.full((7,), 2), entities=torch.full((7,), 2))
    for degenerate in (one, same):
        made = value(degenerate, loss)
        gradients = torch.autograd.grad(made, (batch.users, batch.items))
        assert made.item() == pytest.approx(0, abs=1e-12)
        assert all(float(g.abs().max()) == pytest.approx(0, abs=1e-12) for g in gradients)


def test_no_rows_and_no_weight_give_a_connected_zero() -> None:
    batch = rows()
    none = InBatchRows(
        *(getattr(batch, name)[:0] for name in ("users", "items", "ids", "entities", "owners", "events"))
    )
    for made in (value(none, InBatchSoftmax()), value(batch, InBatchSoftmax(), torch.zeros(7))):
        gradients = torch.autograd.grad(made, (batch.users, batch.items))
        assert made.item() == 0 and all(float(g.abs().sum()) == 0 for g in gradients)


def test_a_zero_vector_has_cosine_zero_and_finite_gradients() -> None:
    batch = rows()
    users = torch.zeros_like(batch.users).requires_grad_()
    loss = InBatchSoftmax(logq=False)
    made = value(replace(batch, users=users), loss)
    (gradient,) = torch.autograd.grad(made, users)
    negatives = (batch.entities.unsqueeze(1) != batch.entities).sum(1)
    assert made.item() == pytest.approx((1 + negatives).double().log().mean().item()) and not gradient.any()


def test_a_factor_of_the_popularity_changes_nothing() -> None:
    loss, batch = InBatchSoftmax(0.5), rows()
    first = value(batch, loss)
    loss.log_popularity = loss.log_popularity + 3.0
    again = loss.in_batch(replace(batch, users=loss.scored(batch.users), items=loss.scored(batch.items)))
    assert torch.allclose(first, again)


def test_popularity_is_a_share_of_the_training_rows_and_no_part_of_a_checkpoint() -> None:
    loss = InBatchSoftmax()
    loss.prepare(torch.tensor([6, 2, 0]))
    shares = loss.log_popularity.exp().tolist()
    assert shares == pytest.approx([6 / 9, 2 / 9, 1 / 9])  # an item without rows counts as one row
    assert dict(loss.named_buffers()) and not loss.state_dict()


def test_half_precision_is_scored_in_float32() -> None:
    batch = rows(dtype=torch.float32)
    loss = InBatchSoftmax(0.5)
    exact = value(batch, loss)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert value(batch, loss).item() == pytest.approx(exact.item(), rel=1e-6)


def test_huge_scores_are_finite() -> None:
    users, items = torch.tensor([[1e4], [-1e4]]), torch.tensor([[-1.0], [1.0]])
    made = contrast(users, items, lambda here: torch.ones(2, 2).bool()[here], temperature=1.0)
    assert made.tolist() == pytest.approx([2e4, 2e4])


def test_what_it_was_not_told_is_said() -> None:
    with pytest.raises(CrossrecError, match=r"objective\.temperature=0 must be more than 0"):
        InBatchSoftmax(0)
    with pytest.raises(CrossrecError, match=r"set objective\.logq=false"):
        InBatchSoftmax().in_batch(rows())
