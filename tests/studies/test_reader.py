from pathlib import Path

import pytest
import yaml

from crossrec.errors import CrossrecError
from crossrec.studies.reader import read_study
from crossrec.studies.study import Tolerance

GOOD = {"rows": {"a": ["strategy=merged"], "b": ["strategy=cmf"]}, "seeds": [0, 1], "metrics": ["ndcg@10"]}


def written(folder: Path, **keys: object) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in {**GOOD, **keys}.items() if v is not None}, sort_keys=False))
    return path


def test_jobs_are_every_seed_data_set_row_and_part(tmp_path: Path) -> None:
    study = read_study(
        written(
            tmp_path,
            base=["dim=8"],
            data={"x": ["data=synthetic"], "y": ["data=movielens"]},
            rows={
                "a": ["strategy=merged"],
                "b": {"overrides": ["strategy=target_only"], "runs": [["target=a"], ["target=b"]]},
            },
        )
    )
    jobs = study.jobs(["dim=4"])
    assert len(jobs) == 2 * 2 * 3
    assert jobs[0].overrides == ("dim=8", "data=synthetic", "strategy=merged", "dim=4", "seed=0")
    assert [(j.row, j.data, j.seed, j.part) for j in jobs[3:6]] == [
        ("a", "y", 0, 0),
        ("b", "y", 0, 0),
        ("b", "y", 0, 1),
    ]
    assert "target=b" in jobs[5].overrides
    with pytest.raises(CrossrecError, match=r"study\.yaml: seed=3 would be ignored"):
        study.jobs(["seed=3"])


def test_a_row_over_values_is_a_row_each(tmp_path: Path) -> None:
    over = {"overrides": ["strategy=mmd"], "over": {"adaptation.mmd.weight": [0, "1e-3", 1.0]}}
    study = read_study(written(tmp_path, rows={"mmd": over}))
    assert [r.name for r in study.rows] == ["mmd weight=0", "mmd weight=1e-3", "mmd weight=1.0"]
    assert [r.parameter for r in study.rows] == [("adaptation.mmd.weight", v) for v in (0.0, 0.001, 1.0)]
    assert study.rows[1].overrides == ("strategy=mmd", "adaptation.mmd.weight=1e-3")


def test_published_values_of_the_rows(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text(
        "method,domain,metric,value,std,seeds\na,d,ndcg@10,0.25,0.01,5\nb,d,ndcg@10,0.1,,1\n"
    )
    study = read_study(written(tmp_path, published="p.csv", source="a paper", tolerance={"relative": 0.02}))
    assert study.published == {("a", "", "d", "ndcg@10"): (0.25, 0.01), ("b", "", "d", "ndcg@10"): (0.1, None)}
    assert str(study.tolerance) == "0.02 of the published value"


def test_tolerance_is_within_either_bound() -> None:
    rule = Tolerance(relative=0.1, absolute=0.05)
    assert rule.holds(0.11, 0.1) and rule.holds(0.15, 0.1) and not rule.holds(0.16, 0.1)
    assert rule.holds(0.9, 1.0) and not rule.holds(0.89, 1.0)
    assert not Tolerance().holds(0.1 + 1e-6, 0.1)


def test_truth_and_nothing_over_are_words_of_the_command_line(tmp_path: Path) -> None:
    over = {"over": {"x.target": [None, True, False, [1, None], 1]}}
    study = read_study(written(tmp_path, rows={"m": over}))
    words = ["null", "true", "false", "[1,null]", "1"]
    assert [r.overrides for r in study.rows] == [(f"x.target={w}",) for w in words]
    assert [r.name for r in study.rows] == [f"m target={w}" for w in words]
    assert [r.parameter for r in study.rows] == [("x.target", v) for v in (*words[:4], 1.0)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows:\n  a: [x=1]\n  a: [x=2]\nseeds: [0]\nmetrics: [m]", r"study\.yaml, line 3: rows\.a is named twice"),
        ("rows: {1: [], '1': []}\nseeds: [0]\nmetrics: [m]", r"rows\.1 is named twice"),
        ("rows: {a: []}\nseeds: [0]\nseeds: [1]\nmetrics: [m]", r"line 3: seeds is named twice"),
        ("rows: {a: {search: {lr: {choice: [{b: 1, b: 2}]}}}}", r"rows\.a\.search\.lr\.choice\.b is named twice"),
    ],
)
def test_a_key_named_twice_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(CrossrecError, match=message):
        read_study(tmp_path / "study.yaml")


def test_a_merged_key_may_be_replaced(tmp_path: Path) -> None:
    text = "rows:\n  a: &a {overrides: [x=1]}\n  b: &b {<<: *a, overrides: [x=2]}\n  c: {<<: *b, overrides: [x=3]}\n"
    (tmp_path / "study.yaml").write_text(text + "seeds: [0]\nmetrics: [m]\n")
    assert [r.overrides for r in read_study(tmp_path / "study.yaml").rows] == [("x=1",), ("x=2",), ("x=3",)]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"rowz": {}}, r"study\.yaml: no key rowz; did you mean rows"),
        ({"rows": None}, "rows is missing"),
        ({"seeds": []}, "seeds is missing"),
        ({"seeds": [0, "1"]}, "seeds must be a list of whole numbers"),
        ({"seeds": [0, 0]}, "names one twice"),
        ({"base": ["dim=8", "seed=3"]}, r"study\.yaml: base: seed=3 would be ignored, .* seeds: \[0, 1, 2\]"),
        ({"data": {"x": ["seed=3"]}}, r"data\.x: seed=3 would be ignored"),
        ({"rows": {"a": ["seed=3"]}}, r"rows\.a: seed=3 would be ignored"),
        ({"rows": {"a": {"runs": [["+seed=3"]]}}}, r"rows\.a\.runs: \+seed=3 would be ignored"),
        ({"rows": {"a": {"over": {"seed": [0, 1]}}}}, r"rows\.a\.over: seed=\[0, 1\] would be ignored"),
        ({"rows": ["a"]}, "rows must map names"),
        ({"rows": {"a": "strategy=mmd", "b": [3]}}, r"rows\.b must be a list of words"),
        ({"rows": {"a": {"override": []}}}, r"no key rows\.a\.override; did you mean overrides"),
        ({"rows": {"a": {"over": {"x": []}}}}, r"rows\.a\.over must map one config key"),
        ({"rows": {"a": {"runs": "x"}}}, r"rows\.a\.runs must be a list"),
        ({"rows": {"a": {"search": []}, "b": {"search": [1]}}}, r"rows\.b\.search must map"),
        (
            {"rows": {"a": {"search": {"lr": {"lgo": [1, 2]}}}}},
            r"rows\.a\.search\.lr: no kind 'lgo'; did you mean log\?",
        ),
        (
            {"rows": {"a": {"over": {"dim": [1, 2]}, "search": {"dim": {"int": [1, 2]}}}}},
            r"rows\.a: dim is both searched and given by over",
        ),
        ({"rows": {"a x=1": [], "a": {"over": {"x": [1]}}}}, "two rows are named 'a x=1'"),
        ({"baseline": "aa"}, "baseline 'aa' is not a row"),
        ({"data": ["x"]}, "data must map names"),
        ({"test": "t"}, "must be one of permutation, wilcoxon"),
        ({"tolerance": {"relativ": 1}}, r"no key tolerance\.relativ; did you mean relative"),
        ({"tolerance": 0.1}, "tolerance must be a mapping"),
        ({"tolerance": {"relative": True}}, "tolerance must be a mapping"),
        ({"tolerance": {"relative": -0.1}}, "numbers from 0 on"),
        ({"tolerance": {"absolute": float("nan")}}, "numbers from 0 on"),
        ({"published": "p.csv"}, "published values need a tolerance"),
        ({"published": "q.csv", "tolerance": {"absolute": 1}}, r"no file q\.csv beside the study"),
        ({"published": "p.csv", "tolerance": {"absolute": 1}}, "need a source"),
        ({"config_dir": "nowhere"}, "config_dir nowhere is not a folder"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, keys: dict[str, object], message: str) -> None:
    (tmp_path / "p.csv").write_text("method,domain,metric,value\na,d,ndcg@10,0.25\n")
    with pytest.raises(CrossrecError, match=message):
        read_study(written(tmp_path, **keys))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("method,domain,value\n", "has no column 'metric'"),
        ("dataset,method,domain,metric,value\nX,a,d,auc,1\n", r"has a column 'dataset', but study\.yaml names no data"),
        ("method,domain,metric,value\na,d,m,high\n", "line 2: value and std must be numbers"),
        ("method,domain,metric,value\na,d,auc,1\na,d,auc,2\n", "line 3: a second value for a d auc"),
        (
            "method,domain,metric,value\nzz,d,auc,1\n",
            r"no value of a cell of study\.yaml: it has no method 'zz'; valid names are a, b",
        ),
        ("method,domain,metric,value\na,d,auc,1\na ,d,auc,1\n", r"line 3: .* no method 'a '; did you mean a\?"),
        ("method,domain,metric,value\nB,d,auc,1\n", r"line 2: .* no method 'B'; did you mean b\?"),
        ("method,domain,metric,value\n", "has no values"),
        ("method,domain,metric,value\na,d,auc,nan\n", "line 2: value and std must be finite"),
        ("method,domain,metric,value,std\na,d,auc,1,inf\n", "line 2: value and std must be finite"),
        (
            "method,domain,metric,value\na,d,ndgc@10,1\n",
            r"no value of a cell .*no metric 'ndgc@10'; did you mean ndcg@10",
        ),
        ("method,domain,metric,value\na,dd,auc,1\n", r"no value of a cell .*no domain 'dd'; did you mean d\?"),
        ("method,domain,metric,value\na,,auc,1\n", r"line 2: .*no domain ''; valid names are d"),
        ("", "is not a CSV table"),
    ],
)
def test_a_wrong_published_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    keys = {"metrics": ["ndcg@10", "auc"], "domains": ["d"], "published": "p.csv", "source": "a paper"}
    with pytest.raises(CrossrecError, match=message):
        read_study(written(tmp_path, tolerance={"absolute": 0.1}, **keys))


def test_published_values_of_what_the_study_does_not_show_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("method,domain,metric,value\na,d,auc,1\nLightGCN,d,auc,2\na,d,ndcg@20,3\n")
    keys = {"metrics": ["ndcg@10", "auc"], "published": "p.csv", "source": "a paper", "tolerance": {"absolute": 0.1}}
    left = (
        r"2 of 3 lines are left out, because study\.yaml has no method 'LightGCN'; .*no metric 'ndcg@20'; did you mean"
    )
    with pytest.warns(UserWarning, match=left):
        assert read_study(written(tmp_path, **keys)).published == {("a", "", "d", "auc"): (1.0, None)}


def test_no_file_and_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(CrossrecError, match="no study file"):
        read_study(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("rows: [")
    with pytest.raises(CrossrecError, match=r"bad\.yaml is not YAML"):
        read_study(tmp_path / "bad.yaml")
    (tmp_path / "latin.yaml").write_bytes("title: Füße\n".encode("latin-1"))
    with pytest.raises(CrossrecError, match=r"latin\.yaml is not UTF-8 text \(byte 9\): save it as UTF-8"):
        read_study(tmp_path / "latin.yaml")
    (tmp_path / "list.yaml").write_text("- a")
    with pytest.raises(CrossrecError, match="must be a mapping"):
        read_study(tmp_path / "list.yaml")


def test_rows_that_share_a_run_run_it_once_under_the_first_name(tmp_path: Path) -> None:
    from crossrec.runs.store import RunFolder
    from crossrec.studies.jobs import Planned, distinct

    jobs = read_study(written(tmp_path, rows={"a": [], "b": [], "c": ["dim=8"]}, seeds=[0])).jobs()
    planned = [Planned(job, RunFolder(tmp_path / name)) for job, name in zip(jobs, ("x", "x", "y"))]
    assert [p.job.row for p in distinct(planned)] == ["a", "c"]
