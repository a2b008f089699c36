"""Run crossrec from tests: in this process, or as a command line of its own."""

import os
import subprocess
import sys
from pathlib import Path

from crossrec.commands.train import composed
from crossrec.runs.store import RunFolder
from crossrec.runs.train import train

REPO = Path(__file__).resolve().parents[1]


def run(words: list[str], config_dirs: list[Path] | None = None) -> RunFolder:
    """Train what the words of a command line say; the run's folder."""
    return train(composed(words, config_dirs), words, config_dirs or [])


def crossrec(*words: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``crossrec WORDS`` in a process of its own, from any working directory."""
    paths = [environment.pop("PYTHONPATH", ""), str(REPO), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, **environment, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}
    line = [sys.executable, "-m", "crossrec", *words]
    return subprocess.run(line, capture_output=True, text=True, cwd=cwd, env=environment, timeout=300)
