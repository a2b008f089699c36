import io
import json
import re
import statistics
import subprocess
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from markdown_it import MarkdownIt
from rich.console import Console
from running import run
from study_files import write_study
from tables import example
from test_html import Page
from test_latex import ENGINES

from crossrec.cli import main
from crossrec.errors import CrossrecError
from crossrec.runs.store import RunFolder, write_json
from crossrec.studies.gaps import gap_block, gap_lines
from crossrec.studies.html import html
from crossrec.studies.jobs import Planned
from crossrec.studies.latex import latex
from crossrec.studies.reader import read_study
from crossrec.studies.render import csv, markdown, print_table
from crossrec.studies.selection import select
from crossrec.studies.study import Job, Row, Study
from crossrec.studies.table import GapLine, Table

ROWS = ("alone & only", "merged")


def gap(mmd: float) -> dict[str, float]:
    return {"mmd": mmd, "low": 0.0, "high": 1.0, "p": 0.5, "coral": mmd / 100, "pad": mmd * 2}


def pair(space: str, before: float, after: float, rows: int = 40) -> dict[str, object]:
    sizes = {"rows": [rows, rows], "shared": 0}
    return {"space": space, "pair": ["a_b", "c"], **sizes, "before": gap(before), "after": gap(after)}


def study(folder: Path, gaps: dict[tuple[str, int, int], list[dict[str, object]] | None], parts: int = 1) -> Table:
    """A table whose rows' runs, by row, part and seed, are finished and have these pairs; None: not measured."""
    made = Study(
        folder / "s.yaml", "s", "s", (), {"": ()}, tuple(Row(r, (), ((),) * parts) for r in ROWS), (0, 1), ("m",)
    )
    jobs = []
    for (row, part, seed), pairs in gaps.items():
        planned = RunFolder(folder / f"{row.split()[0]}-{part}-{seed}")
        write_json(planned.path / "status.json", {"state": "finished"})
        write_json(planned.path / "metrics.json", {})
        if pairs is not None:
            write_json(planned.path / "gap.json", {"pairs": pairs})
        jobs.append(Planned(Job(row, "", seed, part, ()), planned))
    lines, notes = gap_lines(made, jobs)
    return replace(example(), gaps=lines, notes=tuple(notes))


@pytest.fixture
def table(tmp_path: Path) -> Table:
    both = {seed: [pair("users", 0.25 + seed / 8, 0.125), pair("items", 0.5, 0.75)] for seed in (0, 1)}
    return study(tmp_path, {("alone & only", 0, 0): None, ("merged", 0, 0): both[0], ("merged", 0, 1): both[1]})


def test_values_are_those_of_the_files_and_the_missing_stays_empty(table: Table, tmp_path: Path) -> None:
    assert [(line.row, line.space, len(line.runs)) for line in table.gaps] == [
        ("alone & only", "users", 0), ("alone & only", "items", 0), ("merged", "users", 2), ("merged", "items", 2),
    ]  # fmt: skip
    users = table.gaps[2]
    assert users.values["mmd", "before"] == (0.25, 0.375) and users.values["pad", "after"] == (0.25, 0.25)
    block = [(line.level, line.label, *(f"{n} {s}".strip() for n, s in line.cells)) for line in gap_block(table)]
    assert block == [
        (0, "alone & only", "", "", "", ""),
        (1, "users, a_b - c, before", "–", "–", "–", "0/2"),
        (2, "after", "–", "–", "–", ""),
        (1, "items, a_b - c, before", "–", "–", "–", "0/2"),
        (2, "after", "–", "–", "–", ""),
        (0, "merged", "", "", "", ""),
        (1, "users, a_b - c, before", "0.3125 0.0884", "0.0031 0.00088", "0.62 0.18", "2/2"),
        (2, "after", "0.1250 0.0000", "0.0013 0", "0.25 0.00", ""),
        (1, "items, a_b - c, before", "0.5000 0.0000", "0.005 0", "1.00 0.00", "2/2"),
        (2, "after", "0.7500 0.0000", "0.0075 0", "1.50 0.00", ""),
    ]
    below = study(tmp_path / "below", {("merged", 0, 1): [pair("users", -0.00001, -0.25)]})
    assert [line.cells[0][0] for line in gap_block(below)[-2:]] == ["0.0000", "−0.2500"]
    one = study(tmp_path / "one", {("merged", 0, 1): [pair("users", 0.25, 0.5)]})
    assert gap_block(one)[-2].cells[0] == ("0.2500", "") and gap_block(one)[-2].cells[-1] == ("1/2", "")


def test_what_cannot_be_compared_or_is_not_measured_is_said(tmp_path: Path) -> None:
    sizes = {("merged", 0, 0): [pair("users", 0.1, 0.1)], ("merged", 0, 1): [pair("users", 0.1, 0.1, rows=20)]}
    (note,) = study(tmp_path / "1", sizes).notes
    assert note.startswith("Domain gaps are of different numbers of users or items")
    nothing = study(tmp_path / "2", {("merged", 0, 0): None})
    assert nothing.gaps == () and nothing.notes[0].endswith(f"crossrec gap {tmp_path / '2' / 's.yaml'}.")
    parts = {("merged", part, 0): [pair("users", part, 0.1)] for part in (0, 1)}
    lines = study(tmp_path / "3", parts, parts=2).gaps
    assert [line.row for line in lines] == ["alone & only", "merged #1", "merged #2"]
    assert [line.values["mmd", "before"] for line in lines] == [(), (0.0,), (1.0,)]


def test_every_format_shows_the_block(table: Table) -> None:
    for width in (60, 80, 200):
        file = io.StringIO()
        print_table(table, Console(file=file, width=width, force_terminal=True, color_system=None))
        out = file.getvalue().partition("Domain gap, before and after training")[2]
        assert max(len(line.rstrip()) for line in out.splitlines()) <= width
        assert "0.3125 ± 0.0884" in out and "0.62 ± 0.18" in out and "MMD²" in out and "0/2" in out
    assert "| &emsp;users, a\\_b - c, before | 0.3125 ± 0.0884 | 0.0031 ± 0.00088 | 0.62 ± 0.18 | 2/2 |" in markdown(
        table
    )
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").parse(markdown(table))
    assert sum(token.type == "table_open" for token in rendered) == 2
    page = Page()
    page.feed(html(table))
    page.close()
    assert page.open == [] and sum(tag == "table" for tag, _ in page.seen) == 2
    shown = [[text for _, _, text in row] for row in page.rows if "users, a_b - c, before" in row[0][2]]
    assert [row[1] for row in shown] == ["–", "0.3125 ± 0.0884"] and shown[0][4] == "0/2"
    assert "Domain gap" not in markdown(example()) + html(example()) + latex(example())


def test_the_csv_has_the_gaps_as_metrics(table: Table) -> None:
    frame = pl.read_csv(io.StringIO(csv(table)), infer_schema_length=None)
    gaps = frame.filter(pl.col("metric").str.starts_with("gap "))
    assert gaps.height == 2 * 2 * 3 * 2
    assert frame.height == gaps.height + len(table.rows) * len(table.columns)
    (entry,) = gaps.filter(row="merged", metric="gap users mmd before").iter_rows(named=True)
    assert (entry["domain"], entry["mean"], entry["n"], entry["expected"]) == ("a_b - c", 0.3125, 2, 2)
    assert entry["std"] == statistics.stdev((0.25, 0.375)) and entry["runs"] == "merged-0-0;merged-0-1"
    empty = gaps.filter(row="alone & only")
    assert empty["mean"].null_count() == empty.height and set(empty["status"]) == {"not run"}


def test_latex_has_a_table_of_its_own(table: Table) -> None:
    text = latex(table)
    assert text.count(r"\begin{table}") + text.count(r"\begin{table*}") == 2 and r"\label{tab:table-2-more-gap}" in text
    assert r"\quad users, a\_b - c, before & 0.3125{\tiny\,$\pm$\,0.0884} & " in text
    assert r"\quad users, a\_b - c, before & -- & -- & -- & 0/2 \\" in text and r"MMD$^{2}$" in text


@pytest.mark.skipif(not ENGINES, reason="neither tectonic nor pdflatex is installed")
def test_latex_of_the_block_compiles(table: Table, tmp_path: Path) -> None:
    body = latex(table)
    head = "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n"
    (tmp_path / "paper.tex").write_text(f"{head}{body}\\end{{document}}\n")
    options = ["-interaction=nonstopmode", "-halt-on-error"] if ENGINES[0] == "pdflatex" else []
    done = subprocess.run([ENGINES[0], *options, "paper.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout + done.stderr


def test_reports_are_checked(tmp_path: Path) -> None:
    assert read_study(write_study(tmp_path, [], reports=["gap"])).reports == ("gap",)
    with pytest.raises(CrossrecError, match=r"reports: 'gaps' is none of gap; did you mean gap"):
        read_study(write_study(tmp_path, [], reports=["gaps"]))


def test_a_study_is_measured_run_by_run_and_goes_on(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = {"popularity": ["strategy=popularity"], "alone": ["strategy=target_only"], "merged": ["strategy=merged"]}
    path = write_study(tmp_path, [*small, "trainer.max_epochs=1"], rows=rows, reports=["gap"])
    runs = {}
    for planned in select(path, []).jobs:
        if planned.job.row == "merged" or planned.job.seed == 0:
            runs[planned.job.row, planned.job.seed] = run(list(planned.job.overrides))
    first, second = runs["merged", 0], runs["merged", 1]
    best = second.best.read_bytes()
    second.best.unlink()
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["gap", str(path)])
    said = capsys.readouterr()
    assert f"1/2 {first.id}: MMD^2 of users a - b " in said.out and f"2/2 not measured: run {second.id}" in said.out
    assert "1 runs were not measured; the same line tries them again" in said.err
    assert (first.path / "gap.png").is_file()
    assert [p.parent.name for p in (tmp_path / "runs").rglob("gap.json")] == [first.id]

    second.best.write_bytes(best)
    before = (first.path / "gap.json").stat().st_mtime_ns
    main(["gap", str(path), "--rows", "20"])
    out = capsys.readouterr().out
    assert f"1/1 {second.id}" in out and f"the table: crossrec table {path}" in out
    assert "2 runs measured, 2 without a gap (not trained, or on one domain), 2 not finished" in out
    assert (first.path / "gap.json").stat().st_mtime_ns == before

    main(["table", str(path), "--format", "markdown"])
    out = capsys.readouterr().out
    assert "**Domain gap, before and after training**" in out and "Domain gaps are of different numbers of users" in out
    values = [json.loads((r.path / "gap.json").read_text())["pairs"][0]["after"]["pad"] for r in (first, second)]
    assert f"| {statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f} |" in out


def test_words_that_are_not_of_a_study_are_refused(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write_study(tmp_path, small))
    for words, said in (
        ([path, "-o", "a.csv"], r"-o is for runs; `crossrec table .*study.yaml -o FOLDER` writes"),
        ([path, "a_run"], r"'a_run' is not an override of .*study.yaml"),
        (["a_run", "--config-dir", "."], "--config-dir is for a study; a run knows its configs"),
    ):
        with pytest.raises(SystemExit):
            main(["gap", *words])
        assert re.search(said, capsys.readouterr().err)


def test_a_line_of_a_data_set_says_which(table: Table) -> None:
    two = replace(table, gaps=tuple(replace(line, data=data) for data in ("x", "y") for line in table.gaps))
    assert [line.label for line in gap_block(two) if line.level == 0] == [
        "alone & only, x", "merged, x", "alone & only, y", "merged, y",
    ]  # fmt: skip
    assert isinstance(two.gaps[0], GapLine)
