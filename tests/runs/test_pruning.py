from pathlib import Path

import pytest
from running import run

from crossrec.errors import CrossrecError
from crossrec.runs.pruning import Pruned
from crossrec.runs.store import RunFolder
from crossrec.runs.trial_storage import TrialAddress, open_storage, open_study


def test_a_pruned_run_goes_on_to_the_metrics_of_one_that_was_not(
    tmp_path: Path, small: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*small, "trainer.max_epochs=4"]
    whole = (run(words).path / "metrics.json").read_bytes()
    words.append(f"paths.runs={tmp_path / 'pruned'}")
    url = f"sqlite:///{tmp_path / 'trials.db'}"
    study = open_study(open_storage(url), "s")
    for _ in range(6):  # five that the pruner needs, good from epoch 1 on; then ours
        trial = study.ask()
        for epoch, value in enumerate((0.0, 0.9, 0.9, 0.9)):
            if trial.number < 5:
                trial.report(value, epoch)
        if trial.number < 5:
            study.tell(trial, 0.9)
    monkeypatch.setenv("CROSSREC_TRIAL", TrialAddress(url, "s", 5).dump())
    with pytest.raises(Pruned, match="trial 5 is behind the others at epoch 1"):
        run(words)
    (folder,) = (RunFolder(p.parent) for p in (tmp_path / "pruned").glob("*/config.yaml"))
    assert folder.status["state"] == "pruned" and not folder.finished and folder.last.is_file()
    assert list(open_study(open_storage(url), "s").trials[5].intermediate_values) == [0, 1]
    monkeypatch.delenv("CROSSREC_TRIAL")
    assert (run(words).path / "metrics.json").read_bytes() == whole
    assert folder.status["state"] == "finished" and folder.status["error"] is None


def test_a_wrong_trial_variable_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSREC_TRIAL", "{}")
    with pytest.raises(CrossrecError, match=r"CROSSREC_TRIAL is '\{\}', not JSON"):
        TrialAddress.from_environment()
    monkeypatch.delenv("CROSSREC_TRIAL")
    assert TrialAddress.from_environment() is None
