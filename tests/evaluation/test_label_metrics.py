import math

import pytest
import torch
from torchmetrics.functional.classification import binary_accuracy, binary_auroc

from crossrec.data.batches import PAD, QueryBatch
from crossrec.evaluation.collector import RankingMetrics
from crossrec.evaluation.labels import METRICS, as_many, evaluate, labelled_pairs

START, N = 10, 30


def pairs(n=200, seed=0, rounded=False):
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(n, generator=generator) < 0.6).double()
    scores = torch.randn(n, generator=generator, dtype=torch.float64) + labels
    return torch.stack([scores.round() if rounded else scores, labels], 1)


@pytest.mark.parametrize("rounded", [False, True])
def test_metrics_equal_those_of_torchmetrics(rounded):
    made = pairs(rounded=rounded)
    scores, labels = made.unbind(1)
    found = evaluate(made, logits=True)
    assert found.keys() == set(METRICS)
    # as probabilities torchmetrics reads them, strictly ordered as the scores are
    assert found["label_auc"].item() == pytest.approx(binary_auroc(scores.sigmoid(), labels.long()).item(), abs=1e-6)
    decided = scores != 0
    expected = binary_accuracy(scores[decided].sigmoid(), labels[decided].long()).item()
    share = decided.double().mean().item()
    assert found["label_accuracy"].item() == pytest.approx(share * expected + (1 - share) / 2, abs=1e-6)
    probability = torch.where(labels > 0, scores.sigmoid(), 1 - scores.sigmoid())
    assert found["label_log_loss"].item() == pytest.approx(-probability.log().mean().item(), abs=1e-9)


def test_metrics_by_hand():
    made = torch.tensor([[2.0, 1], [-1.0, 1], [0.0, 0], [-2.0, 0], [1.0, 1]], dtype=torch.float64)
    found = {k: v.item() for k, v in evaluate(made, logits=True).items()}
    losses = [
        math.log1p(math.exp(-2)),
        math.log1p(math.e),
        math.log(2),
        math.log1p(math.exp(-2)),
        math.log1p(1 / math.e),
    ]
    assert found == pytest.approx(
        {"label_auc": 5 / 6, "label_majority": 0.6, "label_accuracy": 3.5 / 5, "label_log_loss": sum(losses) / 5}
    )


def test_scores_that_are_no_logits_have_no_accuracy_and_one_label_no_order():
    assert evaluate(pairs(), logits=False).keys() == {"label_auc", "label_majority"}
    found = evaluate(torch.tensor([[1.0, 1.0], [2.0, 1.0]]), logits=False)
    assert found["label_auc"] == 0.5 and found["label_majority"] == 1


def batch(relevant, disliked=None, candidates=None):
    q = len(relevant)
    empty = torch.zeros((q, 0), dtype=torch.long)
    return QueryBatch(
        users=torch.arange(q), history=empty, relevant=torch.tensor(relevant), seen=empty,
        candidates=empty if candidates is None else torch.tensor(candidates), domain=0,
        cold=torch.zeros(q, dtype=torch.bool), disliked=None if disliked is None else torch.tensor(disliked),
    )  # fmt: skip


def test_the_collector_classifies_relevant_and_disliked_items_of_all_queries():
    scores = torch.randn(3, N, generator=torch.Generator().manual_seed(0))
    relevant, disliked = [[11, 12], [13, PAD], [PAD, PAD]], [[14, PAD], [PAD, PAD], [15, 16]]
    metric = RankingMetrics(n_items=N, start=START, logits=True)
    for row in range(3):
        metric.update(scores[row : row + 1], batch(relevant[row : row + 1], disliked[row : row + 1]))
    found = metric.compute()
    chosen = [(0, 1, 1), (0, 2, 1), (1, 3, 1), (0, 4, 0), (2, 5, 0), (2, 6, 0)]
    expected = evaluate(torch.tensor([[scores[q, c], y] for q, c, y in chosen]), logits=True)
    assert {k: found[k].item() for k in METRICS} == pytest.approx({k: v.item() for k, v in expected.items()})
    assert found["n_queries"] == 2  # the third has nothing to be found


def test_sampled_candidates_are_negatives_as_many_as_the_relevant_items():
    candidates = torch.tensor([[5, 6, 7], [8, 9, 4]])
    kept = as_many(candidates, torch.tensor([[1, 2], [3, PAD]]))
    assert kept.tolist() == [[5, 6, PAD], [8, PAD, PAD]]
    scores = torch.randn(2, N, generator=torch.Generator().manual_seed(0))
    metric = RankingMetrics(n_items=N, start=0)
    metric.update(scores, batch([[1, 2], [3, PAD]], candidates=candidates.tolist()))
    found = metric.compute()
    expected = evaluate(labelled_pairs(scores, torch.tensor([[1, 2], [3, PAD]]), kept), logits=False)
    assert found["label_auc"] == expected["label_auc"] and found["label_majority"] == 0.5
    assert "label_accuracy" not in found


def test_without_negatives_nothing_is_classified():
    metric = RankingMetrics(n_items=N, start=START, logits=True)
    metric.update(torch.randn(1, N), batch([[11]]))
    assert not [key for key in metric.compute() if key.startswith("label")]
