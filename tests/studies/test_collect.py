import json
import statistics
from pathlib import Path

import pytest
from running import crossrec, here, run
from study_files import ROWS, write_study

from crossrec.errors import CrossrecError
from crossrec.runs.store import RunFolder
from crossrec.studies.adhoc import grid
from crossrec.studies.collect import collect
from crossrec.studies.pairing import paired_users
from crossrec.studies.selection import Selection, select
from crossrec.studies.table import Column
from crossrec.studies.trace import trace


def swept(study: Path) -> Selection:
    """Train a study's runs in this process."""
    chosen = select(study, [])
    for planned in chosen.jobs:
        made = run(list(planned.job.overrides))
        assert made.path.resolve() == planned.run.path
    return chosen


def test_a_table_of_validation_is_of_what_selected_and_compares_no_users(small: list[str], tmp_path: Path) -> None:
    quick = [*small, "trainer.max_epochs=1"]
    chosen = swept(write_study(tmp_path, quick, baseline="popularity", stage="valid"))
    table = collect(chosen.study, chosen.jobs)
    column = Column("", "b", "ndcg@10")
    cell = table.cells["merged", column]
    assert [v.value for v in cell.values] == [
        p.run.metrics["valid"]["valid/b/ndcg@10"] for p in chosen.jobs if p.job.row == "merged"
    ]
    assert all(made.comparison is None for made in table.cells.values())
    assert any(note.startswith("Of validation, which selected") for note in table.notes)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"stage": "dev"}, "stage='dev' must be one of test, valid"),
        ({"stage": "valid", "metrics": ["coverage@10"]}, "'coverage@10' is not computed on validation"),
        (
            {"stage": "valid", "test": "wilcoxon"},
            "test compares users on the test set: leave out test",
        ),
        ({"stage": "valid", "published": "p.csv"}, "published values are of the test set: leave out stage: valid"),
    ],
)
def test_a_stage_that_cannot_be_shown_is_refused(
    small: list[str], tmp_path: Path, more: dict[str, object], told: str
) -> None:
    (tmp_path / "p.csv").write_text("method,domain,metric,value,std,seeds\n")
    with pytest.raises(CrossrecError, match=told):
        select(write_study(tmp_path, small, **more), [])


def test_cells_are_means_over_seeds_of_the_test_metrics(small: list[str], tmp_path: Path) -> None:
    published = "method,domain,metric,value,std,seeds\n"
    quick = [*small, "trainer.max_epochs=1"]
    chosen = swept(write_study(tmp_path, quick, baseline="popularity"))
    column = Column("", "a", "ndcg@10")
    values = [p.run.metrics["test"]["test/a/ndcg@10"] for p in chosen.jobs if p.job.row == "merged"]
    published += f"merged,a,ndcg@10,{statistics.fmean(values) * 1.01},,3\npopularity,a,ndcg@10,0.9,0.1,3\n"
    (tmp_path / "p.csv").write_text(published)
    keys = {"published": "p.csv", "source": "a paper", "tolerance": {"relative": 0.02}}
    chosen = select(write_study(tmp_path, quick, baseline="popularity", **keys), [])
    table = collect(chosen.study, chosen.jobs)

    assert table.columns == tuple(Column("", d, m) for d in ("a", "b") for m in ("recall@10", "ndcg@10"))
    cell, base = table.cells["merged", column], table.cells["popularity", column]
    assert [v.value for v in cell.values] == values
    assert (cell.mean, cell.std) == (statistics.fmean(values), statistics.stdev(values))
    assert (cell.status, base.status) == ("reproduced", "differs")
    assert table.cells["merged", Column("", "b", "ndcg@10")].status == "run"
    assert base.published_std == 0.1 and base.difference == base.mean - 0.9
    assert cell.gain == (cell.mean - base.mean) / base.mean and base.gain is None and base.comparison is None
    assert sorted([cell.place, base.place]) == [1, 2]

    runs = {row: {p.job.seed: p.run.path for p in chosen.jobs if p.job.row == row} for row in ROWS}
    users = paired_users(runs["merged"], runs["popularity"], "a", "ndcg@10")
    assert cell.comparison.difference == pytest.approx(users["difference"].mean())
    assert cell.comparison.n_users == users.height and cell.comparison.n_seeds == 2
    ends = cell.comparison.relative
    assert ends == pytest.approx((cell.comparison.low / base.mean, cell.comparison.high / base.mean))
    assert ends[0] < cell.gain < ends[1]
    tests = [table.cells["merged", c].comparison for c in table.columns]
    least = min(t.p_users for t in tests)
    assert min(t.p_adjusted for t in tests) == pytest.approx(min(1, least * len(tests)))
    assert all(t.p_adjusted >= t.p_users for t in tests)
    assert collect(chosen.study, chosen.jobs, significance=False).cells["merged", column].comparison is None


def test_what_has_not_run_is_empty_and_a_missing_seed_partial(small: list[str], tmp_path: Path) -> None:
    chosen = select(write_study(tmp_path, small, rows={**ROWS, "cmf": ["strategy=cmf", "user_encoder=id"]}), [])
    with pytest.raises(CrossrecError, match=r"no run of .*study\.yaml is finished: crossrec sweep"):
        collect(chosen.study, chosen.jobs)
    for planned in chosen.jobs:
        if planned.job.row == "popularity" and planned.job.seed == 1:
            run(list(planned.job.overrides))
    table = collect(chosen.study, chosen.jobs)
    column = table.columns[0]
    cell = table.cells["popularity", column]
    assert (cell.status, len(cell.values), cell.expected, cell.std, cell.place) == ("partial", 1, 2, None, None)
    for row in ("merged", "cmf"):
        empty = table.cells[row, column]
        assert (empty.status, empty.mean, empty.values, empty.place) == ("not run", None, (), None)


def test_a_row_of_several_runs_takes_a_domain_from_each(small: list[str], tmp_path: Path) -> None:
    alone = {"overrides": ["strategy=target_only", "trainer.max_epochs=1"], "runs": [["target=a"], ["target=b"]]}
    rows = {"alone": alone, "popularity": [*ROWS["popularity"], "target=all"]}
    chosen = swept(write_study(tmp_path, small, rows=rows, seeds=[0], baseline="alone"))
    table = collect(chosen.study, chosen.jobs)
    names = {d: table.cells["alone", Column("", d, "ndcg@10")].values[0].id for d in ("a", "b")}
    assert len(set(names.values())) == 2
    assert RunFolder(tmp_path / "runs" / names["b"]).config["target"] == "b"
    shared = {table.cells["popularity", Column("", d, "ndcg@10")].values[0].id for d in ("a", "b")}
    assert len(shared) == 1

    twice = {"overrides": ["strategy=popularity"], "runs": [[], ["dim=4"]]}
    both = swept(write_study(tmp_path, small, rows={"twice": twice}, seeds=[0]))
    with pytest.raises(CrossrecError, match="row 'twice': two of its runs evaluate the domain a"):
        collect(both.study, both.jobs)


def test_wrong_metrics_and_domains_are_named(small: list[str], tmp_path: Path) -> None:
    rows = {"popularity": ROWS["popularity"]}
    swept(write_study(tmp_path, small, rows=rows, seeds=[0]))
    misspelt = write_study(tmp_path, small, rows=rows, seeds=[0], metrics=["ndgc@10"])
    with pytest.raises(CrossrecError, match=r"row 'popularity': metrics: 'ndgc@10' is not computed .*ndcg@10"):
        select(misspelt, [])
    other = write_study(tmp_path, small, rows=rows, seeds=[0], domains=["macro", "c"])
    with pytest.raises(CrossrecError, match=r"domains: the data have no domain 'c'; valid names are a, b, macro"):
        select(other, [])
    chosen = select(write_study(tmp_path, small, rows=rows, seeds=[0], domains=["macro"]), [])
    (recall, _) = collect(chosen.study, chosen.jobs).columns
    assert recall.domain == "macro"


def test_a_number_is_traced_to_its_runs(small: list[str], tmp_path: Path) -> None:
    chosen = swept(write_study(tmp_path, small, rows={"popularity": ROWS["popularity"]}))
    lines = trace(collect(chosen.study, chosen.jobs), "popularity", "ndcg@10")
    text = "\n".join(lines)
    for planned in chosen.jobs:
        made = planned.run
        assert f"run      {made.path}\n" in text and f"config   {made.config_path}\n" in text
        assert f"revision {made.versions['git']}\n" in text
        assert repr(made.metrics["test"]["test/b/ndcg@10"]) in text
    with pytest.raises(CrossrecError, match="no row 'popularty'; did you mean popularity"):
        trace(collect(chosen.study, chosen.jobs), "popularty", "ndcg@10")
    with pytest.raises(CrossrecError, match="no metric 'hit@3'"):
        trace(collect(chosen.study, chosen.jobs), "popularity", "hit@3")


def test_a_folder_of_runs_is_a_table_too(small: list[str], tmp_path: Path) -> None:
    for seed in (0, 1):
        for strategy in ("popularity", "text_cosine"):
            run([*small, f"strategy={strategy}", f"seed={seed}"])
    study, jobs = grid(tmp_path / "runs", baseline="strategy=popularity")
    table = collect(study, jobs)
    assert set(table.rows) == {"strategy=popularity", "strategy=text_cosine"}
    assert all(len(c.values) == 2 for c in table.cells.values())
    with pytest.raises(CrossrecError, match="no row 'popularity'"):
        grid(tmp_path / "runs", baseline="popularity")
    run([*small, "strategy=popularity", "seed=0", "data.source.seed=5"])
    changed = next(r for r in (tmp_path / "runs").glob("*/overrides.json") if "data.source.seed=5" in r.read_text())
    changed.write_text(json.dumps([w for w in json.loads(changed.read_text()) if "data.source.seed" not in w]))
    with pytest.raises(CrossrecError, match="have the same overrides"):
        grid(tmp_path / "runs")
    with pytest.raises(CrossrecError, match="no study file and no folder"):
        grid(tmp_path / "nothing")


@pytest.mark.slow
def test_the_table_of_a_grid_and_its_files(small: list[str], tmp_path: Path) -> None:
    run([*small, "strategy=popularity", "seed=0", "evaluation.query_batch_size=7"])  # the grid finds it finished
    made = crossrec("train", "-m", *small, "strategy=popularity,text_cosine", "seed=0,1", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    run([*small, "strategy=popularity", "seed=9"])  # not of the grid
    (folder,) = (tmp_path / "runs" / "multirun").iterdir()
    shown = here("table", str(folder), "--metrics", "hit@5", "-o", str(tmp_path / "out"), cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "strategy=text_cosine" in shown.stdout and "hit@5" in shown.stdout and "ndcg" not in shown.stdout
    assert "2 seeds" in shown.stdout and "query_batch_size" not in shown.stdout
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"table.md", "table.tex", "table.csv", "table.html", "bars.png", "bars.pdf"}
    for name in ("table.md", "table.tex", "table.csv", "table.html"):
        assert str(tmp_path) not in (tmp_path / "out" / name).read_text()
    wrong = here("table", str(folder), "dim=3", cwd=tmp_path)
    assert wrong.returncode == 1 and "are for study files" in wrong.stderr
