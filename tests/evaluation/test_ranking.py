import pytest
import torch

from crossrec.errors import CrossrecError
from crossrec.evaluation import ranking
from crossrec.evaluation.ranking import distinct, rank, rank_relevant, top_k

PAD = -1


def tied_scores(q: int, c: int, levels: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(levels, (q, c), generator=torch.Generator().manual_seed(seed)).float() / 7 - 3


def by_definition(scores, relevant, allowed):
    wanted = scores.gather(1, relevant.clamp_min(0))
    better = ((scores.unsqueeze(1) > wanted.unsqueeze(2)) & allowed.unsqueeze(1)).sum(2)
    ties = ((scores.unsqueeze(1) == wanted.unsqueeze(2)) & allowed.unsqueeze(1)).sum(2)
    valid = relevant != PAD
    return better.masked_fill(~valid, 0), ties.masked_fill(~valid, 1)


def test_ranks_of_a_small_case_by_hand():
    scores = torch.tensor([[5.0, 3.0, 3.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    ranks = rank_relevant(scores, torch.tensor([[1, 3], [0, PAD]]))
    assert ranks.better.tolist() == [[1, 3], [0, 0]]
    assert ranks.ties.tolist() == [[2, 1], [4, 1]]
    assert ranks.n_candidates.tolist() == [4, 4]
    assert ranks.n_relevant.tolist() == [2, 1]


@pytest.mark.parametrize("n_relevant", [1, 3, 140])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_ranks_equal_their_definition_when_counted_when_sorted_and_in_any_chunk(n_relevant, dtype, monkeypatch):
    generator = torch.Generator().manual_seed(1)
    scores = tied_scores(17, 300, 40).to(dtype)
    relevant = torch.stack([torch.randperm(300, generator=generator)[:n_relevant] for _ in range(17)])
    relevant[::3, n_relevant // 2 :] = PAD
    allowed = torch.rand(17, 300, generator=generator) < 0.7
    allowed.scatter_(1, relevant.clamp_min(0), True)
    better, ties = by_definition(scores, relevant, allowed)
    for chunk in (1, 700, 1 << 20):
        for counted in (0, 1000):
            monkeypatch.setitem(ranking.CHUNK, "cpu", chunk)
            monkeypatch.setattr(ranking, "MAX_COUNTED", counted)
            ranks = rank_relevant(scores, relevant, allowed)
            assert torch.equal(ranks.better, better)
            assert torch.equal(ranks.ties, ties)
            assert torch.equal(ranks.n_candidates, allowed.sum(1))


def test_seen_columns_are_the_same_as_columns_not_allowed_and_scores_stay_untouched():
    scores = tied_scores(9, 200, 30)
    before = scores.clone()
    relevant = torch.arange(9).unsqueeze(1)
    seen = torch.randint(20, 200, (9, 12), generator=torch.Generator().manual_seed(3))
    seen[:, 11] = seen[:, 0]  # named twice
    seen[::2, 5:] = PAD
    allowed = torch.ones_like(scores, dtype=torch.bool)
    allowed.scatter_(1, torch.where(seen == PAD, seen[:, :1], seen), False)
    a, lists = rank(scores, relevant, seen=seen, k=5)
    b = rank_relevant(scores, relevant, allowed)
    assert torch.equal(a.better, b.better)
    assert torch.equal(a.ties, b.ties)
    assert torch.equal(a.n_candidates, b.n_candidates)
    assert bool(allowed.gather(1, lists).all())
    assert torch.equal(scores, before)


def test_a_relevant_item_stays_a_candidate_when_it_was_seen():
    ranks, lists = rank(torch.tensor([[9.0, 8.0, 7.0]]), torch.tensor([[1]]), seen=torch.tensor([[0, 1]]), k=3)
    assert ranks.better.tolist() == [[0]]
    assert ranks.n_candidates.tolist() == [2]
    assert lists.tolist() == [[1, 2, PAD]]


def test_scores_that_are_a_view_of_one_row_are_ranked():
    ranks, _ = rank(torch.arange(5.0).expand(3, 5), torch.tensor([[0], [2], [4]]), seen=torch.tensor([[4], [4], [3]]))
    assert ranks.better.tolist() == [[3], [1], [0]]


def test_a_column_named_twice_counts_once():
    ranks = rank_relevant(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[2, 2, PAD, PAD]]))
    assert ranks.n_relevant.tolist() == [1]
    assert distinct(torch.tensor([[4, 1, 4, 1, PAD]])).tolist() == [[4, 1, PAD, PAD, PAD]]


def test_relevant_counts_within_and_before_a_tie_group():
    scores = torch.tensor([[4.0, 4.0, 4.0, 2.0, 2.0, 1.0]])
    ranks = rank_relevant(scores, torch.tensor([[3, 0, 1, PAD, 5]]))
    assert ranks.relevant_better.tolist() == [[2, 0, 0, 0, 3]]
    assert ranks.relevant_ties.tolist() == [[1, 2, 2, 1, 1]]


def test_restricted_ranks_keep_the_other_items_as_candidates():
    ranks = rank_relevant(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[0, 1]])).restrict(
        torch.tensor([[False, True]])
    )
    assert ranks.n_relevant.tolist() == [1]
    assert ranks.better.tolist() == [[0, 1]]
    assert ranks.relevant_better.tolist() == [[0, 0]]


@pytest.mark.parametrize("columns", [3, 64, 65, 900, 5000])
def test_top_k_is_the_sorted_list(columns):
    generator = torch.Generator().manual_seed(columns)
    scores = torch.stack([torch.randperm(columns, generator=generator) for _ in range(30)]).float()
    allowed = torch.rand(30, columns, generator=generator) < 0.5
    allowed[0] = False
    for k in (1, 10):
        lists = top_k(scores, allowed, k)
        values, order = scores.masked_fill(~allowed, -torch.inf).sort(dim=1, descending=True)
        expected = order.masked_fill(values == -torch.inf, PAD)[:, :k]
        assert torch.equal(lists[:, : expected.shape[1]], expected)
        assert bool((lists[:, expected.shape[1] :] == PAD).all())
    assert lists[0].eq(PAD).all()


def test_top_k_of_ties_lists_distinct_columns_with_the_best_scores():
    scores = tied_scores(20, 3000, 5)
    lists = top_k(scores, None, 10)
    assert torch.equal(scores.gather(1, lists), scores.topk(10, dim=1).values)
    assert all(len(set(row)) == 10 for row in lists.tolist())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_not_finite_is_an_error_that_names_the_query(value, monkeypatch):
    monkeypatch.setitem(ranking.CHUNK, "cpu", 3 * 64)
    scores = torch.zeros(8, 20)
    scores[5, 3] = value
    with pytest.raises(CrossrecError, match=r"1 of 60 are NaN or infinite, in 1 of 3 .* query 5 at column 3"):
        rank_relevant(scores, torch.zeros(8, 1, dtype=torch.long))
    several = torch.arange(24).reshape(8, 3).fmod(20)
    several[5:, 1:] = PAD  # ranked in another order
    with pytest.raises(CrossrecError, match=r"query 5 \(user 105\)"):
        rank(scores, several, users=torch.arange(100, 108))
    allowed = torch.ones_like(scores, dtype=torch.bool)
    allowed[5, 3] = False
    assert rank_relevant(scores, torch.zeros(8, 1, dtype=torch.long), allowed).ties[5, 0] == 19


def test_large_finite_scores_whose_sum_overflows_are_no_error():
    scores = torch.full((1, 50), 3e38)
    scores[0, 7] = 3.1e38
    assert rank_relevant(scores, torch.tensor([[7]])).better.tolist() == [[0]]


def test_a_relevant_item_that_is_not_allowed_is_an_error():
    with pytest.raises(CrossrecError, match="column 1 of query 0"):
        rank_relevant(torch.zeros(1, 2), torch.tensor([[1]]), torch.tensor([[True, False]]))


def test_no_queries_and_no_relevant_items():
    ranks, lists = rank(torch.zeros(0, 7), torch.zeros(0, 2, dtype=torch.long), k=3)
    assert ranks.better.shape == (0, 2)
    assert lists.shape == (0, 3)
    assert rank_relevant(torch.zeros(2, 7), torch.zeros(2, 0, dtype=torch.long)).n_relevant.tolist() == [0, 0]
