import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save_file

from crossrec.errors import CrossrecError
from crossrec.evaluation.significance import bootstrap_interval, permutation_test, wilcoxon_test
from crossrec.studies.pairing import compare_cells, paired_users, per_user_metrics

Values = Mapping[str, float]


def folder(path: Path, domains: Mapping[str, Values], n_seen: int = 3, **record: object) -> Path:
    """A run folder with what pairing reads: domain -> user name -> ndcg@10."""
    for domain, values in domains.items():
        n = len(values)
        frame = pl.DataFrame(
            {
                "user": range(n), "n_relevant": [1] * n, "n_seen": [n_seen] * n, "cold": [False] * n,
                "ndcg@10": list(values.values()), "auc": [0.5] * n, "name": list(values),
            },
            schema_overrides={"name": pl.String, "ndcg@10": pl.Float64},
        )  # fmt: skip
        (path / "per_user").mkdir(parents=True, exist_ok=True)
        frame.write_parquet(path / "per_user" / f"{domain}.parquet")
    (path / "metrics.json").write_text(json.dumps({"protocol": "full", **record}))
    return path


def drawn(names: Sequence[str], seed: int, mean: float = 0.0) -> dict[str, float]:
    return dict(zip(names, np.random.default_rng(seed).normal(mean, 1.0, len(names))))


def test_users_are_joined_by_name_and_averaged_over_the_seeds_that_have_them(tmp_path: Path) -> None:
    a = {
        0: folder(tmp_path / "a0", {"x": {"u": 0.5, "v": 0.25, "only a": 1.0}}),
        1: folder(tmp_path / "a1", {"x": {"v": 0.75, "w": 0.5}}),
        7: folder(tmp_path / "a7", {"x": {"u": 100.0}}),
    }
    b = {
        1: folder(tmp_path / "b1", {"x": {"only b": 1.0, "w": 1.0, "v": 0.25}}),
        0: folder(tmp_path / "b0", {"x": {"v": 0.5, "u": 0.5}}),
    }
    frame = paired_users(a, b, "x", "ndcg@10")
    assert frame.columns == ["name", "a", "b", "difference"]
    assert frame.rows() == [("u", 0.5, 0.5, 0.0), ("v", 0.5, 0.375, 0.125), ("w", 0.5, 1.0, -0.5)]
    assert per_user_metrics(a[0], "x") == ["ndcg@10", "auc"]


def test_a_comparison_is_of_users_and_of_seeds(tmp_path: Path) -> None:
    names = [f"u{i}" for i in range(40)]
    a = {s: folder(tmp_path / f"a{s}", {"x": drawn(names, s, 0.8)}) for s in range(3)}
    b = {s: folder(tmp_path / f"b{s}", {"x": drawn(names, 10 + s)}) for s in range(3)}
    by_seed = np.array([list(drawn(names, s, 0.8).values()) for s in range(3)])
    by_seed -= np.array([list(drawn(names, 10 + s).values()) for s in range(3)])
    by_name = by_seed[:, np.argsort(names)].mean(0)
    for test, function in (("permutation", permutation_test), ("wilcoxon", wilcoxon_test)):
        made = compare_cells(a, b, "x", "ndcg@10", "base", test)
        assert (made.baseline, made.n_users, made.n_seeds) == ("base", 40, 3)
        assert made.difference == pytest.approx(by_seed.mean())
        assert (made.low, made.high) == pytest.approx(bootstrap_interval(by_name))
        assert made.p_users == made.p_adjusted == pytest.approx(function(by_name))
        assert made.p_users < 0.001 and made.stars == "***"
        assert made.p_seeds == 0.25  # the least that three seeds can give
    assert compare_cells(a, {1: b[1]}, "x", "ndcg@10", "base").p_seeds is None
    with pytest.raises(CrossrecError, match="no test 'permutaton'; did you mean permutation"):
        compare_cells(a, b, "x", "ndcg@10", "base", "permutaton")


def test_macro_weighs_domains_alike(tmp_path: Path) -> None:
    a, b = {}, {}
    for s in range(2):
        x, y = [f"u{i}" for i in range(30)], [f"u{i}" for i in range(20, 90)]
        a[s] = folder(tmp_path / f"a{s}", {"x": drawn(x, s, 0.5), "y": drawn(y, s + 2)})
        b[s] = folder(tmp_path / f"b{s}", {"x": drawn(x, s + 4), "y": drawn(y, s + 6), "empty": {}})
        folder(a[s], {"empty": {}})
    frame = paired_users(a, b, "macro", "ndcg@10")
    parts = [paired_users(a, b, domain, "ndcg@10") for domain in ("x", "y")]
    assert frame.height == 90 and frame["name"].is_unique().all()
    for column in ("a", "b", "difference"):
        assert frame[column].mean() == pytest.approx(np.mean([part[column].mean() for part in parts]))
    made = compare_cells(a, b, "macro", "ndcg@10", "base")
    assert made.difference == pytest.approx(np.mean([part["difference"].mean() for part in parts]))
    folder(b[1], {"z": {"u1": 1.0}})
    with pytest.raises(CrossrecError, match="macro over different domains: a1 has users of x, y, b1 of x, y, z"):
        paired_users(a, b, "macro", "ndcg@10")


def test_what_cannot_be_paired_is_told(tmp_path: Path) -> None:
    a = {0: folder(tmp_path / "a", {"food": {"u": 0.5}})}

    def refused(match: str, b: Mapping[int, Path], domain: str = "food", metric: str = "ndcg@10") -> None:
        with pytest.raises(CrossrecError, match=match):
            paired_users(a, b, domain, metric)

    refused(r"no common seed to compare: seeds \[0\] against \[1\]", {1: a[0]})
    refused("no per-user metrics of domain 'fod'; did you mean food", a, domain="fod")
    refused("food.parquet has no metric 'ndgc@10' of single users; did you mean ndcg@10", a, metric="ndgc@10")
    refused("gini@10 is of all lists together", a, metric="gini@10")
    refused("no user of domain 'food' in common", {0: folder(tmp_path / "b", {"food": {"v": 0.5}})})
    refused("food.parquet: ndcg@10 of user 'u' is nan", {0: folder(tmp_path / "c", {"food": {"u": float("nan")}})})
    refused("not tested on the same rows of 'food': user 'u' has 1 test items after 3 seen ones in the first, 1 after",
            {0: folder(tmp_path / "d", {"food": {"u": 0.5}}, n_seen=9)})  # fmt: skip
    refused("a was evaluated under protocol full, e under sampled",
            {0: folder(tmp_path / "e", {"food": {"u": 0.5}}, protocol="sampled")})  # fmt: skip
    (tmp_path / "d" / "metrics.json").unlink()
    refused("d is not a finished run", {0: tmp_path / "d"})


def test_candidates_must_be_the_domains_same(tmp_path: Path) -> None:
    users, items = torch.arange(2), torch.tensor([[1, 2], [3, 4]])

    def sampled(name: str, **more: torch.Tensor) -> dict[int, Path]:
        run = folder(tmp_path / name, {"food": {"u": 0.5, "v": 0.25}}, protocol="sampled", candidates=name)
        save_file(
            {"food/users": users.clone(), "food/candidates": items.clone(), **more}, run / "candidates.safetensors"
        )
        return {0: run}

    a, wider = sampled("a"), sampled("wider", **{"kitchen/users": users.clone()})
    assert paired_users(a, wider, "food", "ndcg@10").height == 2
    other = sampled("other", **{"food/candidates": items.flip(0)})
    with pytest.raises(CrossrecError, match="a and other were ranked against different candidates of 'food'"):
        paired_users(a, other, "food", "ndcg@10")
