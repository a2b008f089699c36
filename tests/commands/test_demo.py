import shutil
import subprocess
from pathlib import Path

import pytest
from running import REPO


@pytest.mark.parametrize(
    ("words", "shared"),
    [
        ([], []),
        (["trainer.max_epochs=1", "target=a b"], ["trainer.max_epochs=1", "target=a b"]),
        (["-j", "2", "hydra.launcher.verbose=1", "dim=8"], ["dim=8"]),
    ],
)
def test_the_demo_shows_the_table_of_what_it_ran(tmp_path: Path, words: list[str], shared: list[str]) -> None:
    for name, text in (("scripts/setup", ""), (".venv/bin/crossrec", 'printf "%s\\n" "$@"; echo')):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_text(f"#!/usr/bin/env bash\n{text}\n")
        path.chmod(0o755)
    shutil.copy(REPO / "scripts" / "demo", tmp_path / "scripts" / "demo")
    done = subprocess.run([tmp_path / "scripts" / "demo", *words], capture_output=True, text=True, check=True)
    line = ["experiments/quickstart.yaml", "--seeds", "0"]
    assert done.stdout.split("\n") == ["sweep", *line, *words, "", "table", *line, *shared, "", ""]
