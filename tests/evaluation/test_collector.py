import math

import pytest
import torch
import torch.distributed
import torch.multiprocessing as mp

from crossrec.data.batches import PAD, QueryBatch
from crossrec.errors import CrossrecError
from crossrec.evaluation import metrics
from crossrec.evaluation.collector import RankingMetrics
from crossrec.evaluation.ranking import rank_relevant

START, N = 100, 80


def case(q=41, n_relevant=3, seed=0, n_seen=6, n_candidates=0):
    """Scores, batch and the allowed matrix; every row's relevant, seen and candidate items are different ones."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(25, (q, N), generator=generator).float()
    items = torch.stack([torch.randperm(N, generator=generator) for _ in range(q)])
    relevant, seen, candidates = (
        items[:, :n_relevant].clone(),
        items[:, n_relevant : n_relevant + n_seen].clone(),
        items[:, n_relevant + n_seen : n_relevant + n_seen + n_candidates],
    )
    relevant[::2, 1:] = PAD
    seen[::3, 2:] = PAD
    allowed = torch.full((q, N), n_candidates == 0)
    for wanted, value in ((seen, False), (relevant, True), (candidates, True)):
        rows, slots = torch.nonzero(wanted != PAD, as_tuple=True)
        allowed[rows, wanted[rows, slots]] = value
    batch = QueryBatch(
        users=torch.arange(q).flip(0) * 7,
        history=torch.zeros((q, 0), dtype=torch.long),
        relevant=torch.where(relevant == PAD, PAD, relevant + START),
        seen=torch.where(seen == PAD, PAD, seen + START),
        candidates=candidates + START,
        domain=1,
        cold=torch.arange(q) % 4 == 0,
    )
    return scores, batch, relevant, allowed


def rows_of(batch, rows):
    kept = {name: getattr(batch, name)[rows] for name in ("users", "history", "relevant", "seen", "candidates", "cold")}
    return QueryBatch(**kept, domain=batch.domain)


def complete(**options):
    generator = torch.Generator().manual_seed(9)
    metric = RankingMetrics(
        n_items=N,
        start=START,
        ks=(1, 5, 10),
        item_popularity=torch.randint(50, (N,), generator=generator),
        warm_items=torch.rand(N, generator=generator) < 0.6,
        **{"keep_users": True, "diversity": True, **options},
    )
    metric.set_item_vectors(torch.randn(N, 4, generator=generator))
    return metric


@pytest.mark.parametrize("n_candidates", [0, 20])
def test_means_over_queries_under_both_protocols(n_candidates):
    scores, batch, relevant, allowed = case(n_candidates=n_candidates)
    metric = RankingMetrics(n_items=N, start=START, ks=(5, 10))
    for rows in (slice(0, 7), slice(7, 41)):
        metric.update(scores[rows], rows_of(batch, rows))
    found = metric.compute()
    expected = metrics.evaluate(rank_relevant(scores, relevant, allowed), (5, 10)).mean(0)
    for name, value in zip(metrics.names((5, 10)), expected):
        assert float(found[name]) == pytest.approx(float(value), abs=1e-12), name
    assert float(found["n_queries"]) == 41
    assert not any("items" in key or "novelty" in key or "diversity" in key for key in found)


def test_groups_of_users_items_and_their_crossings():
    scores, batch, relevant, allowed = case()
    metric = complete()
    metric.update(scores, batch)
    found = metric.compute()
    ranks = rank_relevant(scores, relevant, allowed)
    warm = metric.warm[relevant.clamp_min(0)]
    everyone = torch.ones_like(batch.cold)
    users = {"": everyone, "warm_users": ~batch.cold, "cold_users": batch.cold}
    items = {"": torch.ones_like(warm), "warm_items": warm, "cold_items": ~warm}
    for user_name, user in users.items():
        for item_name, item in items.items():
            name = "_".join(n for n in (user_name, item_name) if n)
            kept = ranks.restrict(item)
            rows = user & (kept.n_relevant > 0)
            prefix = f"{name}/" if name else ""
            assert float(found[f"{prefix}n_queries"]) == int(rows.sum()) > 0
            for metric_name, value in zip(metric.names, metrics.evaluate(kept, (1, 5, 10))[rows].mean(0)):
                assert float(found[prefix + metric_name]) == pytest.approx(float(value), abs=1e-12), (name, metric_name)


def test_groups_without_a_query_are_absent():
    scores, batch, *_ = case()
    batch = QueryBatch(**{**vars(batch), "cold": torch.zeros(41, dtype=torch.bool)})
    metric = RankingMetrics(n_items=N, start=START, warm_items=torch.ones(N, dtype=torch.bool))
    metric.update(scores, batch)
    found = metric.compute()
    groups = {key.split("/")[0] for key in found if "/" in key}
    assert groups == {"warm_users", "warm_items", "warm_users_warm_items"}
    assert found["warm_users_warm_items/ndcg@10"] == found["ndcg@10"]


def test_list_metrics_are_of_the_unseen_top():
    scores = torch.tensor([[4.0, 3.0, 2.0, 1.0], [4.0, 3.0, 2.0, 1.0]])
    batch = QueryBatch(
        users=torch.arange(2),
        history=torch.zeros((2, 0), dtype=torch.long),
        relevant=torch.tensor([[13], [13]]),
        seen=torch.tensor([[10], [PAD]]),
        candidates=torch.zeros((2, 0), dtype=torch.long),
        domain=0,
        cold=torch.zeros(2, dtype=torch.bool),
    )
    counts = torch.tensor([3, 1, 0, 0])
    metric = RankingMetrics(n_items=4, start=10, ks=(2,), item_popularity=counts, diversity=True)
    metric.set_item_vectors(torch.tensor([[2.0, 0.0], [5.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
    metric.update(scores, batch)  # lists: items 1, 2 and items 0, 1
    found = metric.compute()
    assert float(found["coverage@2"]) == 0.75
    assert float(found["gini@2"]) == pytest.approx(0.375)  # counts 0 1 1 2
    assert float(found["novelty@2"]) == pytest.approx((2.5 + 1.5) / 2)
    assert float(found["diversity@2"]) == pytest.approx(0.5)


def test_without_lists_the_ranking_metrics_are_the_same():
    scores, batch, *_ = case()
    full, short = complete(), complete(lists=False)
    full.update(scores, batch)
    short.update(scores, batch)
    a, b = full.compute(), short.compute()
    assert set(a) - set(b) == {f"{n}@{k}" for n in ("coverage", "gini", "novelty", "diversity") for k in (1, 5, 10)} - {
        "diversity@1"
    }
    assert all(a[key] == value for key, value in b.items())
    assert not short.wants_vectors
    assert full.wants_vectors


def test_users_table_holds_every_query_and_averages_to_the_result():
    scores, batch, *_ = case()
    metric = complete()
    metric.update(scores, batch)
    table = metric.users_table()
    assert table["user"].to_list() == sorted(batch.users.tolist())
    by_user = {int(u): i for i, u in enumerate(batch.users)}
    row = table.row(0, named=True)
    query = by_user[row["user"]]
    assert row["n_relevant"] == int((batch.relevant[query] != PAD).sum())
    assert row["n_seen"] == int((batch.seen[query] != PAD).sum())
    assert row["cold"] is bool(batch.cold[query])
    found = metric.compute()
    for name in [*metric.names, *metric.list_names]:
        assert table[name].mean() == pytest.approx(float(found[name]), abs=1e-12)
    metric.reset()
    assert metric.users_table().height == 0


def test_a_query_without_relevant_items_is_left_out():
    scores, batch, *_ = case(n_candidates=20)
    whole = complete()
    whole.update(scores[1:], rows_of(batch, slice(1, None)))
    relevant = batch.relevant.clone()
    relevant[0] = PAD
    partly = complete()
    partly.update(scores, QueryBatch(**{**vars(batch), "relevant": relevant}))
    assert {k: float(v) for k, v in partly.compute().items()} == {k: float(v) for k, v in whole.compute().items()}


def test_an_unused_metric_has_no_queries_and_no_values():
    metric = complete()
    assert [(k, float(v)) for k, v in metric.compute().items()] == [("n_queries", 0.0)]
    scores, batch, *_ = case()
    metric.update(scores[:0], rows_of(batch, slice(0, 0)))
    metric.reset()
    assert list(metric.compute()) == ["n_queries"]


def test_states_stay_float64_in_a_half_precision_module():
    scores, batch, *_ = case()
    plain, module = complete(), torch.nn.ModuleList([complete()]).to(torch.bfloat16)
    plain.update(scores, batch)
    module[0].update(scores.bfloat16(), batch)  # these scores are exact in bfloat16
    assert module[0].compute()["ndcg@10"] == plain.compute()["ndcg@10"]
    assert module.state_dict() == {}


def test_the_batch_and_the_scores_are_not_modified():
    scores, batch, *_ = case()
    copies = scores.clone(), batch.seen.clone(), batch.relevant.clone()
    complete().update(scores.requires_grad_(), batch)
    assert all(torch.equal(a, b) for a, b in zip(copies, (scores, batch.seen, batch.relevant)))


def test_mistakes_are_told():
    scores, batch, *_ = case()
    metric = RankingMetrics(n_items=N, start=START, diversity=True)
    with pytest.raises(CrossrecError, match="set_item_vectors"):
        metric.update(scores, batch)
    with pytest.raises(CrossrecError, match=r"scores have shape \(41, 79\)"):
        metric.update(scores[:, 1:], batch)
    with pytest.raises(CrossrecError, match="seen holds item 99"):
        metric.update(scores, QueryBatch(**{**vars(batch), "seen": torch.full((41, 1), START - 1)}))
    with pytest.raises(CrossrecError, match=r"query 2 \(user 266\) at column 4"):
        metric.update(scores.index_put((torch.tensor(2), torch.tensor(4)), torch.tensor(math.nan)), batch)
    with pytest.raises(CrossrecError, match="ks must be"):
        RankingMetrics(n_items=N, start=START, ks=(0, 5))
    with pytest.raises(CrossrecError, match="warm of items"):
        RankingMetrics(n_items=N, start=START, warm_items=torch.ones(3, dtype=torch.bool))
    with pytest.raises(CrossrecError, match="expected"):
        metric.set_item_vectors(torch.zeros(3, 4))
    with pytest.raises(CrossrecError, match="keep_users"):
        metric.users_table()


def _process(rank, world, folder, shares):
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    scores, batch, *_ = case()
    metric = complete()
    rows = torch.tensor(shares[rank], dtype=torch.long)
    for part in rows.split(9) if len(rows) else ():  # a process without queries never updates
        metric.update(scores[part], rows_of(batch, part))
    result = {k: float(v) for k, v in metric.compute().items()}
    table = metric.users_table()
    assert sum(len(part) for part in metric.rows) == len(rows)  # its own again after gathering
    torch.save((result, table.to_dict(as_series=False)), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("second", ["half", "nothing"])
def test_two_processes_give_the_result_of_one(tmp_path, second):
    shares = [list(range(0, 41, 2)), list(range(1, 41, 2))] if second == "half" else [list(range(41)), []]
    scores, batch, *_ = case()
    alone = complete()
    alone.update(scores, batch)
    mp.spawn(_process, args=(2, str(tmp_path), shares), nprocs=2)
    for rank in range(2):
        result, table = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert result == {k: pytest.approx(float(v), abs=1e-12) for k, v in alone.compute().items()}
        expected = alone.users_table().to_dict(as_series=False)
        assert table.keys() == expected.keys()
        assert all(table[name] == pytest.approx(expected[name], abs=1e-12) for name in expected)
