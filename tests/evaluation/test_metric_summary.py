import pytest

from crossrec.evaluation.summary import flatten, macro


def test_macro_weighs_domains_alike_and_sums_queries():
    found = macro(
        {
            "a": {"ndcg@10": 0.2, "n_queries": 10.0, "cold_users/ndcg@10": 0.1, "cold_users/n_queries": 3.0},
            "b": {"ndcg@10": 0.4, "n_queries": 90.0},
        }
    )
    assert found == {"ndcg@10": pytest.approx(0.3), "n_queries": 100.0}


def test_macro_leaves_out_domains_without_queries():
    assert macro({"a": {"hit@1": 0.5, "n_queries": 4.0}, "b": {"n_queries": 0.0}}) == {"hit@1": 0.5, "n_queries": 4.0}
    assert macro({"b": {"n_queries": 0.0}}) == {"n_queries": 0.0}
    assert macro({}) == {}


def test_flatten_names_stage_domain_and_metric():
    found = flatten("test", {"food": {"ndcg@10": 0.5, "cold_users/ndcg@10": 0.25}})
    assert found["test/food/ndcg@10"] == 0.5
    assert found["test/macro/cold_users/ndcg@10"] == 0.25
    assert len(found) == 4
