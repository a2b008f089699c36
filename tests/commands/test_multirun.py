from pathlib import Path

from running import crossrec, here, run

from crossrec.runs.summary import find_runs


def test_a_grid_makes_a_folder_for_each_of_its_runs(small: list[str], tmp_path: Path) -> None:
    grid = ["train", "-m", "strategy=target_only,merged", "seed=0,1", *small]
    done = crossrec(*grid, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = find_runs(tmp_path / "runs")
    assert len(found) == 4 and all(r.finished for r in found)
    made = {(r.config["strategy"]["_target_"].split(".")[-1], r.config["seed"]): r for r in found}
    assert set(made) == {("TargetOnly", 0), ("TargetOnly", 1), ("Merged", 0), ("Merged", 1)}
    assert len({(r.path / "metrics.json").read_bytes() for r in found}) == 4
    # A run of a sweep is the run of its own line, and the same grid again trains nothing.
    alone = run([*small, "seed=1", f"paths.runs={tmp_path / 'alone'}"])
    assert alone.id == made["Merged", 1].id
    assert alone.metrics == made["Merged", 1].metrics
    ended = [r.status["ended"] for r in found]
    assert here(*grid, cwd=tmp_path).returncode == 0
    assert [r.status["ended"] for r in found] == ended


def test_a_mistake_in_a_grid_is_told_before_anything_runs(small: list[str], tmp_path: Path) -> None:
    done = here("train", "-m", "strategy=merged,mmmd", *small, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == "crossrec train: error: no option 'mmmd' for strategy; did you mean mmd?"
    assert not find_runs(tmp_path / "runs")
