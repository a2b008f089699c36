from pathlib import Path

import pytest
from running import run
from study_files import write_study

from crossrec.commands.train import composed
from crossrec.errors import CrossrecError
from crossrec.runs.summary import domain_rows
from crossrec.studies.checks import check_metrics, metric_names
from crossrec.studies.reader import read_study


@pytest.mark.parametrize("strategy", ["popularity", "merged"])
@pytest.mark.parametrize("diversity", ["true", "false"])
def test_metric_names_are_those_that_a_run_computes(small: list[str], strategy: str, diversity: str) -> None:
    words = [f"strategy={strategy}", "evaluation.ks=[10,1,3]", f"evaluation.diversity={diversity}"]
    made = run([*small, "trainer.max_epochs=1", "evaluation.monitor=ndcg@10", *words])
    known = metric_names(made.config["evaluation"])
    assert len(set(known)) == len(known)
    for row in domain_rows(made.metrics["test"]).values():
        assert sorted(row) == sorted(known)


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
