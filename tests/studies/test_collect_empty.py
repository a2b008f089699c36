"""What a table shows where there is no number, or no comparison."""

import json
from pathlib import Path
from typing import Any

from running import run
from study_files import ROWS, write_study

from crossrec.studies.collect import collect
from crossrec.studies.jobs import Planned
from crossrec.studies.selection import select
from crossrec.studies.table import Column, Table

ALONE = {"overrides": ["strategy=target_only", "trainer.max_epochs=1"], "runs": [["target=a"], ["target=b"]]}


def tabled(study: Path, finish: Any = lambda planned: True) -> Table:
    """Train the runs of a study that ``finish`` takes; the table."""
    chosen = select(study, [])
    for planned in chosen.jobs:
        if finish(planned):
            run(list(planned.job.overrides))
    return collect(chosen.study, chosen.jobs)


def test_a_domain_whose_run_is_missing_is_an_empty_column(small: list[str], tmp_path: Path) -> None:
    study = write_study(tmp_path, small, rows={"alone": ALONE}, seeds=[0], domains=["a", "b"])
    table = tabled(study, lambda planned: planned.target == "a")
    assert [c.domain for c in table.columns] == ["a", "a", "b", "b"]
    empty = table.cells["alone", Column("", "b", "ndcg@10")]
    assert (empty.status, empty.values, empty.mean) == ("not run", (), None)
    assert not [note for note in table.notes if "evaluate" in note]


def test_a_data_set_without_a_finished_run_keeps_its_columns(small: list[str], tmp_path: Path) -> None:
    data: dict[str, list[str]] = {"first": [], "second": ["data.source.seed=5"]}

    def first(planned: Planned) -> bool:
        return planned.job.data == "first"

    rows: dict[str, Any] = {"popularity": [*ROWS["popularity"], "target=all"]}
    table = tabled(write_study(tmp_path, small, data=data, rows=rows, seeds=[0], metrics=["ndcg@10"]), first)
    assert [(c.data, c.domain) for c in table.columns] == [(d, x) for d in data for x in ("a", "b")]
    assert [table.cells["popularity", c].status for c in table.columns] == ["run", "run", "not run", "not run"]
    rows = {"alone": {**ALONE, "runs": [["target=b"]]}}
    table = tabled(write_study(tmp_path, small, data=data, rows=rows, seeds=[0], metrics=["ndcg@10"]), first)
    assert [(c.data, c.domain) for c in table.columns] == [("first", "b"), ("second", "b")]


def test_a_finished_run_without_the_domain_is_not_called_missing(small: list[str], tmp_path: Path) -> None:
    rows = {"popularity": ROWS["popularity"], "only a": {**ALONE, "runs": [["target=a"]]}}
    table = tabled(write_study(tmp_path, small, rows=rows, seeds=[0], baseline="popularity"))
    empty = table.cells["only a", Column("", "b", "ndcg@10")]
    assert (empty.status, empty.mean, empty.comparison) == ("run", None, None)
    assert [note for note in table.notes if "evaluate" in note] == ["only a does not evaluate b."]
    assert table.cells["only a", Column("", "a", "ndcg@10")].comparison is not None


def test_means_over_other_domains_are_not_in_one_column(small: list[str], tmp_path: Path) -> None:
    rows = {"only a": {**ALONE, "runs": [["target=a"]]}, "alone": ALONE, **ROWS}
    metrics = ["ndcg@10", "coverage@10"]
    study = write_study(
        tmp_path, [*small, "trainer.max_epochs=1"], rows=rows, seeds=[0], domains=["macro"], metrics=metrics,
        baseline="popularity",
    )  # fmt: skip
    table = tabled(study)
    for row in ("only a", "alone"):
        for column in table.columns:
            empty = table.cells[row, column]
            assert (empty.status, empty.mean, empty.gain, empty.comparison) == ("run", None, None, None)
        assert f"{row} has no run with the mean over the domains a, b." in table.notes
    ndcg, coverage = (table.cells["merged", c] for c in table.columns)
    assert ndcg.gain is not None and ndcg.comparison is not None
    assert coverage.gain is not None and coverage.comparison is None
    assert "Not tested over users, being of all lists together: coverage@10." in table.notes


def test_a_comparison_that_cannot_be_made_is_left_out_with_a_note(small: list[str], tmp_path: Path) -> None:
    study = write_study(tmp_path, [*small, "trainer.max_epochs=1"], seeds=[0], baseline="popularity")
    tabled(study)
    chosen = select(study, [])
    base = next(p.run.path for p in chosen.jobs if p.job.row == "popularity")
    (base / "per_user" / "b.parquet").unlink()
    table = collect(chosen.study, chosen.jobs)
    assert table.cells["merged", Column("", "a", "ndcg@10")].comparison is not None
    cell = table.cells["merged", Column("", "b", "ndcg@10")]
    assert cell.mean is not None and (cell.gain, cell.comparison) == (None, None)
    (note,) = [note for note in table.notes if "Not compared" in note]
    assert note.startswith(f"Not compared with popularity: merged b ({base.name} has no per-user metrics of domain 'b'")
    assert str(tmp_path) not in note

    record = json.loads((base / "metrics.json").read_text())
    (base / "metrics.json").write_text(json.dumps({**record, "protocol": "sampled"}))
    (note,) = [note for note in collect(chosen.study, chosen.jobs).notes if "Not compared" in note]
    assert "merged a; merged b" in note and "protocol" in note
