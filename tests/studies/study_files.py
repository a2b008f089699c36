"""Study files and sweeps for tests."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from running import REPO

ROWS = {"popularity": ["strategy=popularity"], "merged": ["strategy=merged"]}


def write_study(folder: Path, small: list[str], **keys: Any) -> Path:
    """Write ``study.yaml`` of quick runs: two rows, two seeds, unless ``keys`` say else."""
    node = {"base": small, "rows": ROWS, "seeds": [0, 1], "metrics": ["recall@10", "ndcg@10"], **keys}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in node.items() if v is not None}, sort_keys=False))
    return path


def start(*words: str, cwd: Path) -> subprocess.Popen[str]:
    """Start ``crossrec WORDS`` as the leader of a process group of its own."""
    here = Path(__file__).parent
    paths = os.pathsep.join([str(REPO), str(here), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths.rstrip(os.pathsep)}
    line = [sys.executable, "-m", "crossrec", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(line, cwd=cwd, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True)


def finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for it to end."""
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)
