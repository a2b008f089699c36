"""What a strategy says of its domains is what happens to them."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest
from running import run

from crossrec.data.schema import Domain
from crossrec.errors import CrossrecError
from crossrec.runs.summary import print_run, selecting
from crossrec.strategies.base import Strategy
from crossrec.strategies.cmf import CMF
from crossrec.strategies.merged import Merged
from crossrec.strategies.target_only import TargetOnly

DOMAINS = [Domain("a", 0, 0, 5), Domain("b", 1, 5, 9), Domain("c", 2, 9, 12)]


class Sources(Strategy):
    """Train on all but the target, select by them, test what trains."""

    @classmethod
    def train_domains(cls, domains: Sequence[Domain], target: int | None) -> list[str]:
        return [d.name for d in domains if d.index != target]

    @classmethod
    def select_domains(cls, domains: Sequence[Domain], target: int | None) -> list[str]:
        return cls.train_domains(domains, target)


@pytest.fixture
def three(small: list[str], tmp_path: Path) -> list[str]:
    folder = tmp_path / "conf" / "strategy"
    folder.mkdir(parents=True)
    (folder / "sources.yaml").write_text(f"_target_: {__name__}.Sources\n")
    return [*small, "data.source.n_domains=3", "target=b"]


@pytest.mark.parametrize(("strategy", "target", "trained", "selecting"), [
    (Merged, 1, "abc", "b"), (Merged, None, "abc", "abc"), (CMF, 0, "abc", "a"), (TargetOnly, 2, "c", "c"),
])  # fmt: skip
def test_by_default_the_target_selects(strategy: type[Strategy], target: int, trained: str, selecting: str) -> None:
    assert strategy.train_domains(DOMAINS, target) == strategy.test_domains(DOMAINS, target) == list(trained)
    assert strategy.select_domains(DOMAINS, target) == list(selecting)


def test_the_mean_over_the_named_domains_selects(
    three: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = run([*three, "strategy=sources"], [tmp_path / "conf"])
    metrics = made.metrics
    assert selecting(made) == ("a", "c")
    assert {k.split("/")[1] for k in metrics["test"]} == {"a", "c", "macro"}
    mean = (metrics["valid"]["valid/a/ndcg@10"] + metrics["valid"]["valid/c/ndcg@10"]) / 2
    assert metrics["best_score"] == pytest.approx(mean, abs=1e-6)
    log = pl.read_csv(made.path / "log" / "metrics.csv").filter(pl.col("valid/monitor").is_not_null())
    each = (log["valid/a/ndcg@10"] + log["valid/c/ndcg@10"]) / 2
    assert log.height > 1 and (log["valid/monitor"] - each).abs().max() < 1e-6
    assert "valid/b/ndcg@10" not in log.columns
    capsys.readouterr()
    print_run(made)
    assert f"selected: epoch {metrics['best_epoch']} by the mean validation ndcg@10 of a, c" in capsys.readouterr().out


def test_a_metric_that_one_of_them_lacks_is_told(three: list[str], tmp_path: Path) -> None:
    none = r"evaluation\.monitor=cold_users/hit@5 has no value, because no validation query of a, c .*are .*ndcg@10"
    with pytest.raises(CrossrecError, match=none):
        run([*three, "strategy=sources", "evaluation.monitor=cold_users/hit@5"], [tmp_path / "conf"])
