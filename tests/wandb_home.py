"""W&B for tests: a machine that has never seen it, and a mirror of a run there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from crossrec.runs.store import RunFolder
from crossrec.runs.wandb_mirror import Mirror

wandb = pytest.importorskip("wandb", reason="pip install 'crossrec[wandb]'")

KEY = "0123456789abcdef" * 2 + "01234567"


@pytest.fixture
def new_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """W&B as on a machine that has never seen it, and a server that is not there."""
    for name in ("API_KEY", "MODE", "IDENTITY_TOKEN_FILE", "RUN_GROUP", "JOB_TYPE", "PROJECT", "ENTITY"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    home = {"CONFIG_DIR": tmp_path, "CACHE_DIR": tmp_path, "DATA_DIR": tmp_path, "BASE_URL": "http://127.0.0.1:9"}
    for name, value in {**home, "SILENT": "true"}.items():
        monkeypatch.setenv(f"WANDB_{name}", str(value))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wandb.teardown()  # or it keeps the environment of the test before
    yield
    wandb.teardown()


def mirror(folder: Path, **arguments: Any) -> Mirror:
    return Mirror(folder, **{"project": "p", "name": "n", "config": {"a": 1}, "id": "r", **arguments})


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Our own lines on stderr."""
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("crossrec:")]


def metrics(made: RunFolder) -> bytes:
    return (made.path / "metrics.json").read_bytes()
