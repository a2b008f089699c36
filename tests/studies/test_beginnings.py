"""Rows of a study that begin with the runs of another row."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from rich.console import Console
from running import run
from study_files import write_study

from crossrec.errors import CrossrecError
from crossrec.runs.store import RunFolder
from crossrec.studies.collect import collect
from crossrec.studies.engine import Engine, Task
from crossrec.studies.jobs import Planned
from crossrec.studies.records import write_records
from crossrec.studies.selection import select
from crossrec.studies.sweep import Outcome, in_rounds, reason

ROWS: dict[str, Any] = {
    "alone": ["strategy=target_only"],
    "begun": {"overrides": ["strategy=target_only", "init.freeze=[user_encoder]"], "init": {"row": "first"}},
    "first": ["strategy=merged", "target=all"],
}


class InProcess:
    """An engine that trains here, one job after the other, and notes in which order."""

    since = 0.0

    def __init__(self) -> None:
        self.launched: list[str] = []
        self.statuses: dict[tuple[str, ...], int] = {}

    def launch(self, tasks: Sequence[Task]) -> None:
        for task in tasks:
            self.launched.append(task.name)
            try:
                run(list(task.words))
                self.statuses[task.words] = 0
            except CrossrecError:
                self.statuses[task.words] = 1

    def exit_status(self, task: Task) -> int | None:
        return self.statuses.get(task.words)


@pytest.fixture
def quick(small: list[str]) -> list[str]:
    return [*small, "trainer.max_epochs=1", "logger=none"]


def swept(study: Path, rows: list[str] | None = None) -> tuple[Outcome, InProcess, list[Planned]]:
    def plan() -> list[Planned]:
        return select(study, [], rows=rows, trains=True).jobs

    engine = InProcess()
    outcome = in_rounds(plan(), plan, cast(Engine, engine), Console(quiet=True))
    return outcome, engine, plan()


def test_a_row_waits_for_the_row_it_begins_with_and_then_takes_its_weights(quick: list[str], tmp_path: Path) -> None:
    study = write_study(tmp_path, quick, rows=ROWS)
    jobs = {(p.job.row, p.job.seed): p for p in select(study, []).jobs}
    assert [p.waits for p in jobs.values() if p.job.row != "begun"] == [""] * 4
    assert jobs["begun", 1].waits == "first seed 1" and jobs["begun", 1].run.state == "new"
    outcome, engine, after = swept(study)
    assert not outcome.failed and len(outcome.finished) == 6
    assert sorted(engine.launched[:4]) == ["alone", "alone", "first", "first"] and engine.launched[4:] == ["begun"] * 2
    made = {(p.job.row, p.job.seed): p.run for p in after}
    for seed in (0, 1):
        record = made["begun", seed].metrics["init"]
        assert (record["run"], record["freeze"]) == (made["first", seed].id, ["user_encoder"])
        ours, theirs = (torch.load(made[row, seed].best, weights_only=True) for row in ("begun", "first"))
        name = "user_encoder.table.weight"
        assert torch.equal(ours["state_dict"][name], theirs["state_dict"][name])
    table = collect(select(study, []).study, after)
    assert all(cell.status == "run" for (row, c), cell in table.cells.items() if c.domain == "b")


def test_the_same_line_again_does_what_is_left(quick: list[str], tmp_path: Path) -> None:
    study = write_study(tmp_path, quick, rows=ROWS, seeds=[0])
    swept(study, rows=["first"])
    _, engine, _ = swept(study)
    assert engine.launched == ["alone", "begun"]
    outcome, engine, _ = swept(study)
    assert engine.launched == [] and len(outcome.finished) == 3


def test_a_chosen_row_brings_the_one_it_begins_with(quick: list[str], tmp_path: Path) -> None:
    study = write_study(tmp_path, quick, rows=ROWS, seeds=[0])
    outcome, engine, _ = swept(study, rows=["begun"])
    assert engine.launched == ["first", "begun"] and len(outcome.finished) == 2


def test_a_failed_source_leaves_its_row_waiting_and_says_so(quick: list[str], tmp_path: Path) -> None:
    rows = {**ROWS, "first": [*ROWS["first"], "evaluation.monitor=accuracy", "trainer.check_val_every_n_epoch=9"]}
    study = write_study(tmp_path, quick, rows=rows, seeds=[0])
    outcome, engine, _ = swept(study)
    assert engine.launched == ["alone", "first"]
    assert {p.job.row: p.waits for p in outcome.failed} == {"first": "", "begun": "first seed 0"}
    (waiting,) = (p for p in outcome.failed if p.waits)
    assert reason(waiting, cast(Engine, engine)) == "it begins with the run of first seed 0, which is not finished"
    table = collect(select(study, []).study, select(study, []).jobs)
    assert all(cell.status == "not run" for (row, _), cell in table.cells.items() if row == "begun")


def test_records_stand_for_both_runs_without_any_weights(quick: list[str], tmp_path: Path) -> None:
    study = write_study(tmp_path, quick, rows=ROWS, seeds=[0])
    _, _, jobs = swept(study)
    write_records(jobs, tmp_path / "records", ["ndcg@10"])
    again = select(study, [f"paths.runs={tmp_path / 'none'}"], recorded=tmp_path / "records").jobs
    assert [(p.run.id, p.run.recorded, p.waits) for p in again] == [(p.run.id, True, "") for p in jobs]
    (begun,) = (p.run for p in jobs if p.job.row == "begun")
    for path in (tmp_path / "records" / "runs" / begun.id).rglob("*"):  # without it nothing tells its name
        path.unlink() if path.is_file() else None
    there = select(study, [f"paths.runs={tmp_path / 'none'}"], recorded=tmp_path / "records").jobs
    assert {p.job.row: (p.run.recorded, p.waits) for p in there} == {
        "alone": (True, ""), "begun": (False, "first seed 0"), "first": (True, ""),
    }  # fmt: skip
    assert not RunFolder(there[1].run.path).finished and json.dumps(there[1].job.overrides[-1])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"a": {"init": {"row": "b"}}}, r"rows\.a\.init: no row 'b'"),
        ({"a": {"init": "b"}, "b": []}, r"rows\.a\.init must be a mapping such as {row: pretraining}"),
        ({"a": {"init": {"row": "b", "freeze": []}}, "b": []}, "what stays fixed is an override"),
        ({"a": {"init": {"row": "a"}}}, "a begins with a"),
        ({"a": {"init": {"row": "b"}}, "b": {"init": {"row": "a"}}}, "a begins with b begins with a"),
        ({"a": {"init": {"row": "b"}}, "b": {"runs": [["target=a"], ["target=b"]]}}, "'b' has 2 runs a seed"),
        ({"a": {"init": {"row": "b"}, "search": {"dim": {"choice": [2, 4]}}}, "b": []}, "cannot wait for another"),
        ({"a": {"init": {"row": "b"}, "overrides": ["init.from=x"]}, "b": []}, "names a run besides the one"),
    ],
)  # fmt: skip
def test_what_cannot_be_begun_with_is_told(
    quick: list[str], tmp_path: Path, rows: dict[str, Any], message: str
) -> None:
    with pytest.raises(CrossrecError, match=message):
        select(write_study(tmp_path, quick, rows=rows), [])
