from pathlib import Path

import pytest
from running import here
from study_files import finish, start, write_study

from crossrec.runs.summary import find_runs

ROWS = {
    "merged": {
        "overrides": ["strategy=merged"],
        "search": {"optimizer.lr": {"log": [1e-4, 1e-1]}, "dim": {"int": [2, 6]}},
    }
}


@pytest.mark.slow
def test_a_launcher_runs_trials_in_batches_and_they_are_pruned(small: list[str], tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="pip install 'crossrec[tune]'")
    words = [*small, "trainer.max_epochs=3"]
    study = str(write_study(tmp_path, words, rows=ROWS, seeds=[0]))
    line = ["tune", study, "--trials", "4", "-j", "2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    done = finish(start(*line, cwd=tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    runs = find_runs(tmp_path / "runs")
    states = [run.state for run in runs]
    assert set(states) <= {"finished", "pruned"} and states.count("finished") >= 2
    best = max(run.selected for run in runs if run.finished)
    assert "4/4" in done.stdout and f"best {best:.4f}" in done.stdout
    assert (tmp_path / "runs" / "tune" / "launches" / "logs").is_dir()

    again = here(*line, cwd=tmp_path)
    assert again.returncode == 0 and len(find_runs(tmp_path / "runs")) == len(runs)  # nothing was left to do
