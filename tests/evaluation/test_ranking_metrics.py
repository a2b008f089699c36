from itertools import pairwise, permutations
from math import log2

import ir_measures
import pytest
import torch
from torchmetrics.functional import retrieval

from crossrec.evaluation import metrics
from crossrec.evaluation.ranking import rank_relevant

KS = (1, 2, 3, 5)
PAD = -1


def one_order(hits: list[bool], k: int, n_relevant: int) -> dict[str, float]:
    """Every metric of one order, from its textbook definition."""
    top = hits[:k]
    first = next((p for p, h in enumerate(top, 1) if h), None)
    dcg = sum(1 / log2(p + 1) for p, h in enumerate(top, 1) if h)
    ideal = sum(1 / log2(p + 1) for p in range(1, min(k, n_relevant) + 1))
    precisions = [sum(top[:p]) / p for p, h in enumerate(top, 1) if h]
    return {
        "recall": sum(top) / n_relevant,
        "precision": sum(top) / k,
        "hit": float(any(top)),
        "ndcg": dcg / ideal,
        "mrr": 1 / first if first else 0.0,
        "map": sum(precisions) / min(k, n_relevant),
        "accuracy": float(hits[0]),
    }


def expectation(scores: list[float], relevant: list[int], k: int) -> dict[str, float]:
    """Mean over every order that does not contradict the scores."""
    orders = [
        order for order in permutations(range(len(scores))) if all(scores[a] >= scores[b] for a, b in pairwise(order))
    ]
    values = [one_order([c in relevant for c in order], k, len(relevant)) for order in orders]
    return {name: sum(v[name] for v in values) / len(values) for name in values[0]}


CASES = [
    ([1, 1, 1, 1, 1, 1], [2]),
    ([1, 1, 1, 1, 1, 1], [0, 3, 5]),
    ([1, 1, 1, 1, 1, 1], [0, 1, 2, 3, 4, 5]),
    ([3, 2, 2, 2, 1, 1], [1]),
    ([3, 2, 2, 2, 1, 1], [0, 2, 3]),
    ([3, 2, 2, 2, 1, 1], [2, 3, 4]),
    ([2, 2, 2, 1, 1, 1], [0, 4, 5]),
    ([3, 3, 2, 2, 1, 1], [1, 2, 5]),
    ([6, 5, 4, 3, 2, 1], [1, 4]),
    ([2, 1, 1, 1, 1, 1, 1], [1, 2, 3]),
]


@pytest.mark.parametrize(("scores", "relevant"), CASES)
def test_ties_take_the_expected_value_over_all_orders(scores, relevant):
    ranks = rank_relevant(torch.tensor([scores], dtype=torch.float64), torch.tensor([[*relevant, PAD, PAD]]))
    for i, k in enumerate(KS):
        expected = expectation(scores, relevant, k)
        for name, function in metrics.AT_K.items():
            assert float(function(ranks, KS)[0, i]) == pytest.approx(expected[name], abs=1e-12), (name, k)
    assert float(metrics.accuracy(ranks)) == pytest.approx(expected["accuracy"], abs=1e-12)
    others = [c for c in range(len(scores)) if c not in relevant]
    pairs = [(scores[a] > scores[b]) + 0.5 * (scores[a] == scores[b]) for a in relevant for b in others]
    assert float(metrics.auc(ranks)) == pytest.approx(sum(pairs) / len(pairs) if pairs else 0.5, abs=1e-12)


def test_constant_scores_give_k_over_n():
    n = 27_637
    ranks = rank_relevant(torch.zeros(2, n), torch.tensor([[5], [n - 1]]))
    for i, k in enumerate((1, 10, 20)):
        for function in (metrics.hit, metrics.recall):
            assert function(ranks, (1, 10, 20))[:, i].tolist() == pytest.approx([k / n] * 2, rel=1e-12)
    assert metrics.auc(ranks).tolist() == [0.5, 0.5]


def test_evaluate_is_the_single_metrics_in_the_order_of_their_names():
    ranks = rank_relevant(torch.randint(5, (40, 30)).float(), torch.randint(-1, 30, (40, 4)))
    together = metrics.evaluate(ranks, KS)
    single = torch.cat(
        [f(ranks, KS) for f in metrics.AT_K.values()] + [f(ranks).unsqueeze(1) for f in metrics.WITHOUT_K.values()], 1
    )
    assert torch.equal(together, single)
    assert together.shape[1] == len(metrics.names(KS))
    assert metrics.names((1, 5))[:3] == ["recall@1", "recall@5", "precision@1"]


def test_queries_without_relevant_items_are_zero():
    for relevant in (torch.full((3, 2), PAD), torch.zeros((3, 0), dtype=torch.long)):
        values = metrics.evaluate(rank_relevant(torch.rand(3, 9), relevant), KS)
        assert torch.equal(values, torch.zeros_like(values))


def test_permuting_columns_and_rescaling_scores_change_nothing():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(8, (25, 40), generator=generator).float()
    relevant = torch.stack([torch.randperm(40, generator=generator)[:3] for _ in range(25)])
    order = torch.randperm(40, generator=generator)
    inverse = order.argsort()
    plain = metrics.evaluate(rank_relevant(scores, relevant), KS)
    moved = metrics.evaluate(rank_relevant(scores[:, order] * 4 - 3, inverse[relevant].flip(1)), KS)
    torch.testing.assert_close(moved, plain, rtol=0, atol=1e-14)


def distinct_case(n_queries=60, n_columns=50, n_relevant=6):
    generator = torch.Generator().manual_seed(11)
    scores = torch.stack([torch.randperm(n_columns, generator=generator) for _ in range(n_queries)]).float()
    relevant = torch.stack([torch.randperm(n_columns, generator=generator)[:n_relevant] for _ in range(n_queries)])
    lengths = torch.randint(1, n_relevant + 1, (n_queries, 1), generator=generator)
    return scores, relevant.masked_fill(torch.arange(n_relevant) >= lengths, PAD)


def test_equal_to_trec_eval_query_by_query():
    scores, relevant = distinct_case()
    ks = (1, 5, 10, 20)
    named = (
        {("recall", k): ir_measures.R @ k for k in ks}
        | {("precision", k): ir_measures.P @ k for k in ks}
        | {("hit", k): ir_measures.Success @ k for k in ks}
    )
    named |= {("ndcg", k): ir_measures.nDCG @ k for k in ks} | {("mrr", k): ir_measures.RR @ k for k in ks}
    named |= {("map", k): ir_measures.AP @ k for k in ks}
    qrels = [ir_measures.Qrel(str(q), str(i), 1) for q, row in enumerate(relevant.tolist()) for i in row if i != PAD]
    run = [ir_measures.ScoredDoc(str(q), str(i), s) for q, row in enumerate(scores.tolist()) for i, s in enumerate(row)]
    reference = {(str(m.measure), int(m.query_id)): m.value for m in ir_measures.iter_calc(named.values(), qrels, run)}
    ranks = rank_relevant(scores, relevant)
    for (name, k), measure in named.items():
        ours = metrics.AT_K[name](ranks, ks)[:, ks.index(k)]
        if name == "map":  # trec_eval divides by |R| where we divide by min(k, |R|)
            ours = ours * ranks.n_relevant.clamp_max(k) / ranks.n_relevant
        theirs = torch.tensor([reference[(str(measure), q)] for q in range(len(scores))], dtype=torch.float64)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9, msg=f"{name}@{k}")


def test_equal_to_torchmetrics_query_by_query():
    scores, relevant = distinct_case(30)
    ranks = rank_relevant(scores, relevant)
    target = torch.zeros(scores.shape, dtype=torch.bool)
    for q, row in enumerate(relevant):
        target[q, row[row != PAD]] = True
    theirs = {
        "recall": retrieval.retrieval_recall,
        "precision": retrieval.retrieval_precision,
        "hit": retrieval.retrieval_hit_rate,
        "ndcg": retrieval.retrieval_normalized_dcg,
        "mrr": retrieval.retrieval_reciprocal_rank,
    }
    for name, function in theirs.items():
        ours = metrics.AT_K[name](ranks, (10,))[:, 0].tolist()
        assert ours == pytest.approx([float(function(s, t, top_k=10)) for s, t in zip(scores, target)], abs=1e-6), name
    # torchmetrics takes scores outside [0, 1] for logits, and the sigmoid of large ones ties
    area = [float(retrieval.retrieval_auroc(s / 50, t)) for s, t in zip(scores, target)]
    assert metrics.auc(ranks).tolist() == pytest.approx(area, abs=1e-6)
