import json
from pathlib import Path

import pytest
from running import run

from crossrec.errors import CrossrecError

pytest.importorskip("wandb", reason="pip install 'crossrec[wandb]'")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {"MODE": "offline", "SILENT": "true", "CONFIG_DIR": tmp_path, "CACHE_DIR": tmp_path}.items():
        monkeypatch.setenv(f"WANDB_{name}", str(value))


def files(folder: Path) -> list[Path]:
    return list((folder / "wandb").glob("offline-run-*/run-*.wandb"))


def test_two_runs_in_a_row_are_two_finished_wandb_runs(small: list[str], offline: None) -> None:
    import wandb

    made = []
    for seed in (0, 1):
        made.append(run([*small, f"seed={seed}", "logger=wandb"]))
        assert wandb.run is None  # finished, so that the next run does not join it
    assert made[0].id != made[1].id
    for one in made:
        (path,) = files(one.path)
        assert path.name == f"run-{one.id}.wandb"
        content = path.read_bytes()
        assert b"valid/b/ndcg@10" in content and b"train/loss" in content
        other = made[0] if one is made[1] else made[1]
        assert other.id.encode() not in content
        summaries = list(path.parent.glob("files/wandb-summary.json"))
        if summaries:
            summary = json.loads(summaries[0].read_text())
            assert summary["test/b/ndcg@10"] == pytest.approx(one.metrics["test"]["test/b/ndcg@10"], abs=1e-6)
    # The numbers do not depend on the logger.
    assert run([*small, "seed=1"]).id == made[1].id


def test_a_failed_run_is_finished_too(small: list[str], offline: None) -> None:
    import wandb

    with pytest.raises(CrossrecError, match="is not computed"):
        run([*small, "logger=wandb", "evaluation.monitor=nonsense@3"])
    assert wandb.run is None
