import csv
import json
import os
import re
import shlex
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from readme import own_loss
from running import REPO
from test_dependencies import PROJECT


def python(*words: str, cwd: Path, program: Path = Path(sys.executable), **environment: str) -> str:
    """Run this Python, or another ``program``, with the words; its standard output."""
    done = subprocess.run(
        [str(program), *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, **environment},
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def environment_of_dependencies(folder: Path) -> tuple[Path, Path]:
    """An environment of its own that holds what pyproject.toml declares, all that those packages need, and no more.

    Nothing is downloaded: the packages are links to those of this environment. Extras are not there, nor what only
    tests need. Pip, which installs the wheel with its dependencies and without an index, refuses one that is absent.

    Returns:
        Its Python, and its folder of packages.
    """
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    left = [Requirement(line) for line in PROJECT["dependencies"]]
    seen: set[tuple[str, frozenset[str]]] = set()
    while left:
        wanted = left.pop()
        key = (canonicalize_name(wanted.name), frozenset(wanted.extras))
        if key in seen or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        seen.add(key)
        package = metadata.distribution(wanted.name)
        for line in package.requires or []:
            needed = Requirement(line)
            extras = ["", *wanted.extras]
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                needed.marker = None
                left.append(needed)
        for top in {file.parts[0] for file in package.files or [] if ".." not in file.parts}:
            if not (site / top).exists() and top != "__pycache__":
                (site / top).symlink_to(Path(str(package.locate_file(top))))
    return folder / "bin" / "python", site


@pytest.mark.slow
def test_the_wheel_trains_from_another_directory_with_its_own_conf(small: list[str], tmp_path: Path) -> None:
    """The wheel is installed, and trains, in an environment of what it declares, linked and not downloaded.

    A true installation would fetch gigabytes at every run of the tests; over the environment of the tests, a package
    that is not declared would be there all the same. :mod:`test_dependencies` names imports that only came along.
    """
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    python("-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(REPO), cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    for folder, inside in ((REPO / "conf", "crossrec/conf"), (REPO / "crossrec", "crossrec")):
        for path in (path for ending in ("py", "yaml", "txt") for path in folder.rglob(f"*.{ending}")):
            if "_plugins" in path.parts:
                continue
            assert f"{inside}/{path.relative_to(folder)}" in packed
    assert "hydra_plugins/crossrec_study.py" in packed  # the one place where Hydra looks for sweepers
    assert not {name for name in packed if name.startswith(("tests/", "conf/", "scripts/", "."))}

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    own, site = environment_of_dependencies(tmp_path / "env")
    install = ["-m", "pip", "--python", str(own), "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    python(*install, str(wheel), cwd=tmp_path)
    code = "import crossrec, crossrec.config as c; print(crossrec.__file__); print(c.conf_dir())"
    where = python("-c", code, cwd=elsewhere, PYTHONPATH=str(site)).split()
    assert where == [str(site / "crossrec" / "__init__.py"), str(site / "crossrec" / "conf")]
    python("-m", "crossrec", "train", *small, cwd=elsewhere, program=own, PYTHONPATH="")
    listed = python(
        "-c", "import hydra_plugins.crossrec_study as s; print(s.__file__)", cwd=elsewhere, PYTHONPATH=str(site)
    )
    assert listed.strip() == str(site / "hydra_plugins" / "crossrec_study.py")
    (metrics,) = (tmp_path / "runs").glob("*/metrics.json")
    assert json.loads(metrics.read_text())["epochs"] == 2
    (versions,) = (tmp_path / "runs").glob("*/versions.json")
    assert json.loads(versions.read_text())["git"] is None  # a wheel lies in no checkout
    assert list(elsewhere.iterdir()) == []
    _the_loss_of_the_readme(tmp_path / "empty", site, small)
    _a_loss_of_ones_own(elsewhere, site, small)
    _a_package_of_losses(elsewhere, site, small)


def _the_loss_of_the_readme(folder: Path, site: Path, small: list[str]) -> None:
    """In an empty folder, the function and the class of README.md, with its lines: nothing of ours is edited."""
    folder.mkdir()
    loss = own_loss()
    loss.write(folder)
    ours = {path: path.stat().st_mtime_ns for path in (site / "crossrec").rglob("*.py")}
    for words, key in zip(loss.lines, ("function", "mean_gap")):
        runs = f"paths.runs={folder / key}"
        python("-m", "crossrec", *words, *small, runs, cwd=folder, PYTHONPATH=os.pathsep.join([".", str(site)]))
        (log,) = (folder / key).glob("*/log/metrics.csv")
        with open(log, newline="") as file:
            values = [row[f"train/adaptation/{key}/0-1"] for row in csv.DictReader(file) if row["train/loss"]]
        assert len(values) == 2 and all(float(v) > 0 for v in values)
    assert {path: path.stat().st_mtime_ns for path in (site / "crossrec").rglob("*.py")} == ours


def _a_loss_of_ones_own(folder: Path, site: Path, small: list[str]) -> None:
    """In an empty folder, `crossrec new` and the two lines that it prints."""
    printed = python("-m", "crossrec", "new", "adaptation", "my_gap", cwd=folder, PYTHONPATH=str(site))
    tested, trained = (shlex.split(line) for line in printed.splitlines()[-2:])
    python(*tested[1:], "-p", "no:cacheprovider", cwd=folder, PYTHONPATH=str(site))
    assert trained[:2] == ["PYTHONPATH=.", "crossrec"]
    paths = os.pathsep.join([".", str(site)])
    python("-m", "crossrec", *trained[2:], *small, cwd=folder, PYTHONPATH=paths)
    assert "adaptation/my_gap/0-1" in _log_of("my_gap", folder)


def _a_package_of_losses(folder: Path, site: Path, small: list[str]) -> None:
    """A package with the entry point of README.md, built and installed by pip, has a loss that trains by its name."""
    points = re.search(r"```toml\n(.*?)```", (REPO / "README.md").read_text(), re.S)
    assert points
    home = folder / "project" / "my_package"
    (home / "conf" / "adaptation").mkdir(parents=True)
    (home / "__init__.py").touch()
    code, config = (folder / "my_gap.py").read_text(), (folder / "conf" / "adaptation" / "my_gap.yaml").read_text()
    (home / "losses.py").write_text(code.replace("MyGap", "TheirGap"))
    config = config.replace("my_gap.MyGap", "my_package.losses.TheirGap").replace("my_gap", "their_gap")
    (home / "conf" / "adaptation" / "their_gap.yaml").write_text(config)
    build = '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
    project = '[project]\nname = "my_package"\nversion = "1.0"\n'
    (home.parent / "pyproject.toml").write_text(build + project + points[1])
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    python(*install, "--no-build-isolation", "--target", str(site), str(home.parent), cwd=folder)
    listed = python("-m", "crossrec", "ls", "adaptation", cwd=folder, PYTHONPATH=str(site))
    assert "their_gap          [my_package] squared distance of the domains' mean vectors" in listed
    words = ["strategy=mmd", "adaptation=[mmd,their_gap]", *small]
    python("-m", "crossrec", "train", *words, cwd=folder, PYTHONPATH=str(site))
    assert "adaptation/their_gap/0-1" in _log_of("their_gap", folder)


def _log_of(name: str, folder: Path) -> str:
    """Metrics of the run that has a term of that name."""
    (log,) = (
        path.parent / "log" / "metrics.csv"
        for path in (folder.parent / "runs").glob("*/config.yaml")
        if f"{name}:" in path.read_text()
    )
    return log.read_text()
