import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from running import REPO


def python(*words: str, cwd: Path, **environment: str) -> str:
    """Run this Python with the words; its standard output."""
    done = subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_the_wheel_trains_from_another_directory_with_its_own_conf(small: list[str], tmp_path: Path) -> None:
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    python("-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(REPO), cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    for folder, inside in ((REPO / "conf", "crossrec/conf"), (REPO / "crossrec", "crossrec")):
        for path in [*folder.rglob("*.py"), *folder.rglob("*.yaml")]:
            if "_plugins" in path.parts:
                continue
            assert f"{inside}/{path.relative_to(folder)}" in packed
    assert "hydra_plugins/crossrec_study.py" in packed  # the one place where Hydra looks for sweepers
    assert not {name for name in packed if name.startswith(("tests/", "conf/", "scripts/", "."))}

    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    python(*install, "--target", str(site), str(wheel), cwd=tmp_path)
    code = "import crossrec, crossrec.config as c; print(crossrec.__file__); print(c.conf_dir())"
    where = python("-c", code, cwd=elsewhere, PYTHONPATH=str(site)).split()
    assert where == [str(site / "crossrec" / "__init__.py"), str(site / "crossrec" / "conf")]
    python("-m", "crossrec", "train", *small, cwd=elsewhere, PYTHONPATH=str(site))
    listed = python(
        "-c", "import hydra_plugins.crossrec_study as s; print(s.__file__)", cwd=elsewhere, PYTHONPATH=str(site)
    )
    assert listed.strip() == str(site / "hydra_plugins" / "crossrec_study.py")
    (metrics,) = (tmp_path / "runs").glob("*/metrics.json")
    assert json.loads(metrics.read_text())["epochs"] == 2
    (versions,) = (tmp_path / "runs").glob("*/versions.json")
    assert json.loads(versions.read_text())["git"] is None  # a wheel lies in no checkout
    assert list(elsewhere.iterdir()) == []
