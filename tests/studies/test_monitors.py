from pathlib import Path

from omegaconf import OmegaConf

from crossrec.runs.store import RunFolder, write_json, write_text
from crossrec.studies.jobs import Planned
from crossrec.studies.monitors import selection_notes
from crossrec.studies.study import Job, Row, Study

Runs = dict[tuple[str, str, int], tuple[str, str] | None]
"""(row, data, part) -> letters of the domains that select, of a and b that are tested, and monitor; None of a run
without training."""


def notes(folder: Path, runs: Runs) -> list[str]:
    jobs = []
    for (row, data, part), selects in runs.items():
        for seed in (0, 1):
            run = RunFolder(folder / f"{row}-{data}-{part}-{seed}")
            write_json(run.path / "status.json", {"state": "finished"})
            domains, monitor = selects or ("ab", "ndcg@10")
            valid = {f"valid/{domain}/{monitor}": 0.5 for domain in [*domains, "macro"]}
            test = {"test/a/auc": 0.5, "test/b/auc": 0.5, "test/macro/auc": 0.5}
            write_json(run.path / "metrics.json", {"best_epoch": 3 if selects else None, "valid": valid, "test": test})
            text = OmegaConf.to_yaml({"target": "never read", "evaluation": {"monitor": monitor}})
            write_text(run.config_path, text)
            jobs.append(Planned(Job(row, data, seed, part, ()), run))
    data = {d: () for d in dict.fromkeys(d for _, d, _ in runs)}
    rows = tuple(Row(r, ()) for r in dict.fromkeys(r for r, _, _ in runs))
    return selection_notes(Study(folder, "s", "s", (), data, rows, (0, 1), ("ndcg@10",)), jobs)


def test_rows_that_select_on_different_metrics_are_told(tmp_path: Path) -> None:
    alone: Runs = {("alone", "", 0): ("a", "ndcg@10"), ("alone", "", 1): ("b", "ndcg@10"), ("popular", "", 0): None}
    assert notes(
        tmp_path / "1", {**alone, ("merged", "", 0): ("ab", "ndcg@10"), ("mmd", "", 0): ("ab", "ndcg@10")}
    ) == [
        "Rows differ in what selects the epoch: alone by validation ndcg@10 of a, b, each in a run of its own; merged, "
        "mmd by the mean of the domains' validation ndcg@10."
    ]
    assert notes(tmp_path / "2", {("x", "", 0): ("a", "ndcg@10"), ("y", "", 0): ("a", "recall@10")}) == [
        "Rows differ in what selects the epoch: x by validation ndcg@10 of a; y by validation recall@10 of a."
    ]
    assert notes(tmp_path / "3", alone) == []
    assert notes(tmp_path / "4", {("x", "", 0): ("a", "ndcg@10"), ("y", "", 0): ("a", "ndcg@10")}) == []


def test_data_sets_that_differ_are_told_apart(tmp_path: Path) -> None:
    one: Runs = {("x", "one", 0): ("a", "auc"), ("y", "one", 0): ("a", "auc")}
    two: Runs = {("x", "two", 0): ("b", "auc"), ("y", "two", 0): ("ab", "auc")}
    assert notes(tmp_path / "1", {**one, **two}) == [
        "Rows of two differ in what selects the epoch: x by validation auc of b; y by the mean of the domains' "
        "validation auc."
    ]
    same: Runs = {("x", "one", 0): ("b", "auc"), ("y", "one", 0): ("ab", "auc")}
    assert notes(tmp_path / "2", {**same, **two})[0].startswith("Rows differ in what selects the epoch: x by")


def test_domains_that_are_not_tested_are_named(tmp_path: Path) -> None:
    sources: Runs = {
        ("zero-shot", "", 0): ("cd", "auc"),
        ("one source", "", 0): ("c", "auc"),
        ("x", "", 0): ("ab", "auc"),
    }
    assert notes(tmp_path, sources) == [
        "Rows differ in what selects the epoch: zero-shot by the mean validation auc of c and d; one source by "
        "validation auc of c; x by the mean of the domains' validation auc."
    ]
