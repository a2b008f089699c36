from pathlib import Path

import polars as pl
import pytest
from running import run

from crossrec.cli import main
from crossrec.runs.summary import find_runs


def test_runs_are_listed_with_their_numbers_and_their_state(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    made = [run([*small, "strategy=popularity"]), run([*small, "seed=3", "strategy=target_only"])]
    made[0].mark("failed")
    capsys.readouterr()
    main(["ls", "runs", str(tmp_path / "runs")])
    printed = capsys.readouterr().out.splitlines()
    lines = {one.id: next(line for line in printed if one.id in line) for one in made}
    assert "failed" in lines[made[0].id] and "popularity" in lines[made[0].id]
    value = made[1].metrics["test"]["test/b/ndcg@10"]
    assert "target_only" in lines[made[1].id] and f"{value:.4f}" in lines[made[1].id]
    assert [r.id for r in find_runs(tmp_path / "runs")] == [r.id for r in made]


def test_the_numbers_of_finished_runs_are_written_to_csv(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["ls", "runs", str(tmp_path / "runs"), "--csv", str(tmp_path / "runs.csv")]
    made = [run([*small, "strategy=popularity"]), run([*small, "strategy=mmd", "seed=2"])]
    main(line)
    frame = pl.read_csv(tmp_path / "runs.csv")
    for one in made:
        rows = frame.filter(pl.col("run") == one.id)
        values = {f"test/{d}/{m}": v for d, m, v in rows.select("domain", "metric", "value").iter_rows()}
        assert values == {k: v for k, v in one.metrics["test"].items() if k.count("/") == 2}
    assert frame.filter(seed=2)["adaptation"].unique().to_list() == ["mmd"]
    for one in made:
        one.mark("failed")
    with pytest.raises(SystemExit):
        main(line)
    assert "no finished run below" in capsys.readouterr().err


def test_mistakes_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        (["runs", str(tmp_path)], f"no runs below {tmp_path}; `crossrec train` makes one"),
        (["runs", "--csv"], "--csv needs the name of a file to write that ends in .csv"),
    ):
        with pytest.raises(SystemExit) as end:
            main(["ls", *words])
        assert end.value.code == 1
        assert capsys.readouterr().err.strip() == f"crossrec ls: error: {message}"
