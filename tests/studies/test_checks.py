import re
from pathlib import Path
from typing import Any

import pytest
from running import run
from study_files import write_study

from crossrec.cli import main
from crossrec.commands.train import composed
from crossrec.data.sources.base import Source
from crossrec.data.sources.synthetic import Synthetic
from crossrec.errors import CrossrecError
from crossrec.runs.summary import domain_rows
from crossrec.studies.checks import check_metrics, metric_names
from crossrec.studies.reader import read_study
from crossrec.studies.selection import select


@pytest.mark.parametrize("strategy", ["popularity", "merged"])
@pytest.mark.parametrize("diversity", ["true", "false"])
def test_metric_names_are_those_that_a_run_computes(small: list[str], strategy: str, diversity: str) -> None:
    words = [f"strategy={strategy}", "evaluation.ks=[10,1,3]", f"evaluation.diversity={diversity}"]
    made = run([*small, "trainer.max_epochs=1", "evaluation.monitor=ndcg@10", *words])
    known = metric_names(made.config["evaluation"])
    assert len(set(known)) == len(known)
    for row in domain_rows(made.metrics["test"]).values():
        assert sorted(row) == sorted(known)


def test_metrics_of_labels_are_there_where_rows_have_labels(tmp_path: Path, small: list[str]) -> None:
    study = read_study(write_study(tmp_path, small, metrics=["ndcg@10", "label_accuracy"]))
    for words in (["positive_rating=4", "objective=bce"], ["evaluation=sampled_99"]):
        check_metrics(study, composed([*small, *words, "evaluation.monitor=label_auc"]))
    with pytest.raises(CrossrecError, match="'label_accuracy' is not computed"):
        check_metrics(study, composed(small))


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("nosuch@10", r"'nosuch@10' is not computed with evaluation\.ks=\[1, 5, 10, 20\]; "),
        ("ndgc@10", r"did you mean ndcg@10"),
        ("ndcg@7", r"did you mean ndcg@"),
        ("diversity@1", r"did you mean .*diversity@"),
    ],
)
def test_a_metric_that_no_run_computes_is_told(tmp_path: Path, small: list[str], metric: str, message: str) -> None:
    config = composed(small)
    check_metrics(read_study(write_study(tmp_path, small, metrics=["recall@20", "gini@5", "auc"])), config)
    with pytest.raises(CrossrecError, match=message):
        check_metrics(read_study(write_study(tmp_path, small, metrics=["recall@20", metric])), config)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "metric": (
        {"metrics": ["ndgc@10"]},
        r"row 'popularity': metrics: 'ndgc@10' is not computed .*did you mean ndcg@10",
    ),
    "monitor": (
        {"rows": {"popularity": ["strategy=popularity"], "merged": ["strategy=merged", "evaluation.monitor=ndcg@7"]}},
        r"row 'merged': evaluation\.monitor=ndcg@7 is not computed in validation with evaluation\.ks=.*mean .*ndcg@",
    ),
    "group": (
        {"rows": {"merged": ["strategy=merged", "evaluation.monitor=warm_user/ndcg@10"]}},
        r"row 'merged': evaluation\.monitor=warm_user/ndcg@10: no group 'warm_user'; did you mean warm_users",
    ),
    "target": (
        {"rows": {"mmd": {"overrides": ["strategy=mmd"], "runs": [["target=a"], ["target=bb"]]}}},
        r"row 'mmd': target=bb: the data have no such domain; did you mean b\?",
    ),
    "domains": ({"domains": ["a", "bb"]}, r"domains: the data have no domain 'bb'; did you mean b\?"),
    "kind": (
        {"rows": {"mmd": {"overrides": ["strategy=mmd"], "search": {"dim": {"itn": [4, 8]}}}}},
        r"rows\.mmd\.search\.dim: no kind 'itn'; did you mean int\?",
    ),
    "searched key": (
        {"rows": {"mmd": {"overrides": ["strategy=mmd"], "search": {"optimizer.lrr": {"log": [0.1, 1]}}}}},
        r"rows\.mmd\.search, tried with optimizer\.lrr=0\.1: no config key 'optimizer\.lrr'",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_study_is_told_before_a_corpus_is_prepared(
    tmp_path: Path, small: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wrong: str
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("a corpus is prepared, or a run is launched, for a study that is wrong")

    monkeypatch.setattr("crossrec.runs.corpus.prepare", never)
    monkeypatch.setattr("crossrec.studies.sweep.sweep", never)
    keys, message = WRONG[wrong]
    study = write_study(tmp_path, small, seeds=[0], **keys)
    for words in (["sweep"], ["sweep", "--dry-run"], ["table"]):
        with pytest.raises(SystemExit):
            main([words[0], str(study), *words[1:]])
        said = capsys.readouterr().err.strip()
        assert re.search(message, said) and str(study) in said and "\n" not in said


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"rows": {"popularity": ["strategy=popularity", "target=bb"]}}, r"row 'popularity': target=bb: .*mean b\?"),
        ({"domains": ["bb"]}, r"domains: the data have no domain 'bb'; did you mean b\?"),
    ],
)
def test_domains_that_only_the_corpus_tells_are_checked_before_the_first_job(
    tmp_path: Path,
    small: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    keys: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.setattr(Synthetic, "domain_names", Source.domain_names)
    study = write_study(tmp_path, small, seeds=[0], **keys)
    for words in (["sweep"], ["sweep", "--dry-run"], ["table"]):
        with pytest.raises(SystemExit):
            main([words[0], str(study), *words[1:]])
        assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "runs").exists()


def test_a_published_value_of_a_domain_that_is_not_there_is_told(tmp_path: Path, small: list[str]) -> None:
    (tmp_path / "published.csv").write_text("method,domain,metric,value\npopularity,bb,ndcg@10,0.1\n")
    keys = {"published": "published.csv", "source": "a paper", "tolerance": {"relative": 0.1}}
    study = write_study(tmp_path, small, seeds=[0], **keys)
    with pytest.raises(
        CrossrecError, match=r"study\.yaml: published: a value of row 'popularity' is of the domain 'bb'"
    ):
        select(study, [])
