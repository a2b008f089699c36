"""Config folders of installed packages and of --config-dir."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import crossrec, here

from crossrec.cli import main
from crossrec.commands.evaluate import evaluation_of
from crossrec.commands.train import composed
from crossrec.config import option_files, options
from crossrec.errors import CrossrecError
from crossrec.plugins import installed
from crossrec.runs.summary import find_runs

LOSS = """
from crossrec.adaptation.base import PairwiseAdaptation

class TinyGap(PairwiseAdaptation):
    def distance(self, a, b):
        return (a.mean(0) - b.mean(0)).square().sum()
"""
CONFIG = """# @package adaptation.{name}
# a tiny gap
_target_: tiny_losses.losses.TinyGap
name: {name}
weight: 1.0
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that Python looks for packages in."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    installed.cache_clear()
    yield folder
    installed.cache_clear()


def install(site: Path, names: list[str], value: str = "tiny_losses.conf", package: str = "tiny-losses") -> Path:
    """Put a package with losses of these names on the path, as pip would; its folder of losses."""
    home = site / package.replace("-", "_")
    (home / "conf" / "adaptation").mkdir(parents=True)
    (home / "__init__.py").write_text("")
    (home / "losses.py").write_text(LOSS)
    for name in names:
        (home / "conf" / "adaptation" / f"{name}.yaml").write_text(CONFIG.format(name=name))
    info = site / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[crossrec.conf]\nlosses = {value}\n")
    return home / "conf" / "adaptation"


def own(folder: Path, name: str, weight: float = 1.0) -> Path:
    """A config folder of one's own with one loss."""
    (folder / "adaptation").mkdir(parents=True, exist_ok=True)
    text = CONFIG.format(name=name).replace("weight: 1.0", f"weight: {weight}")
    (folder / "adaptation" / f"{name}.yaml").write_text(text)
    return folder


def test_an_installed_option_is_listed_with_its_package(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(site, ["tiny_gap"])
    folder = own(site.parent / "conf", "mine")
    main(["ls", "adaptation", "--config-dir", str(folder)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].split(maxsplit=1) == ["tiny_gap", "[tiny-losses] a tiny gap"]
    assert lines[-1].split(maxsplit=1) == ["mine", f"[{folder}] a tiny gap"]
    assert sum("[tiny-losses]" in line for line in lines) == 1
    main(["ls", f"--config-dir={folder}"])
    assert f", tiny_gap (tiny-losses), mine ({folder})\n" in capsys.readouterr().out
    assert composed(["adaptation=[mmd,tiny_gap,mine]"], [folder])["adaptation"]["tiny_gap"]["name"] == "tiny_gap"
    with pytest.raises(CrossrecError, match="no option 'tiny_gab' for adaptation; did you mean tiny_gap"):
        composed(["adaptation=[tiny_gab]"])


def test_a_run_is_evaluated_under_an_installed_protocol(site: Path) -> None:
    folder = install(site, ["tiny_gap"]).parent / "evaluation"
    folder.mkdir()
    ours = option_files("evaluation")["sampled_99"][1].read_text()
    (folder / "sampled_9.yaml").write_text(ours.replace("99", "9"))
    assert evaluation_of({}, ["evaluation=sampled_9"])["n_candidates"] == 9


@pytest.mark.parametrize("value", ["tiny_losses.conf", "tiny_losses.conf.here", "tiny_losses.conf.adaptation"])
def test_its_folder_is_found_without_importing_it(value: str, site: Path) -> None:
    folder = install(site, ["tiny_gap"], value).parent
    (folder.parent / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "here.py").write_text("raise RuntimeError('imported')")
    if value.endswith("adaptation"):  # a folder without groups in it
        with pytest.raises(
            CrossrecError, match=r"'tiny-losses' names 'tiny_losses.conf.adaptation' .* no config group"
        ):
            options("adaptation")
        return
    assert option_files("adaptation")["tiny_gap"] == ("tiny-losses", folder / "adaptation" / "tiny_gap.yaml")
    assert "tiny_losses" not in sys.modules


@pytest.mark.parametrize("value", ["nowhere.conf", "nowhere", "tiny_losses.cnof", "tiny_losses:conf", "sys.conf"])
def test_a_broken_entry_point_is_one_sentence_that_names_the_package(value: str, site: Path) -> None:
    install(site, ["tiny_gap"], value)
    done = crossrec("ls", "adaptation", PYTHONPATH=str(site))
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"crossrec ls: error: the installed package 'tiny-losses' names '{value}' as")
    assert "but there is no such package: mend its entry point, or pip uninstall tiny-losses" in done.stderr
    assert crossrec("--help", PYTHONPATH=str(site)).returncode == 0


def test_help_does_not_look_for_packages() -> None:
    code = "import sys\nfrom crossrec.cli import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
    code += "assert not {'importlib.metadata', 'crossrec.plugins'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_a_name_that_is_taken_is_refused(site: Path, small: list[str]) -> None:
    theirs = install(site, ["tiny_gap"])
    folder = own(site.parent / "conf", "mmd")
    with pytest.raises(CrossrecError, match=r"conf/adaptation/mmd.yaml would never be read: .* option of crossrec"):
        composed([], [folder])
    done = crossrec("train", "--config-dir", str(folder), *small, PYTHONPATH=str(site))
    assert done.returncode == 1 and "adaptation=mmd is an option of crossrec; give the file another" in done.stderr
    (folder / "adaptation" / "mmd.yaml").unlink()
    with pytest.raises(CrossrecError, match="adaptation=tiny_gap is an option of package 'tiny-losses'"):
        composed([], [own(folder, "tiny_gap")])
    assert composed(["adaptation=[tiny_gap]"], [theirs.parent])["adaptation"]  # the package's folder again
    (theirs / "coral.yaml").write_text(CONFIG.format(name="coral"))
    with pytest.raises(CrossrecError, match="adaptation=coral is an option of crossrec"):
        options("adaptation")
    (theirs / "coral.yaml").unlink()
    install(site, ["tiny_gap"], "other_losses.conf", "other-losses")
    installed.cache_clear()
    with pytest.raises(CrossrecError, match="adaptation=tiny_gap is an option of package 'other-losses'"):
        options("adaptation")


def test_train_reads_every_config_dir_and_the_first_of_a_name(site: Path, small: list[str], tmp_path: Path) -> None:
    install(site, ["tiny_gap"])
    folders = [own(tmp_path / "a", "one", 0.5), own(own(tmp_path / "b", "two"), "one", 0.25)]
    words = [word for folder in folders for word in ("--config-dir", folder.name)]
    line = ["train", *words, "strategy=mmd", "adaptation=[one,two,tiny_gap]", *small]
    done = crossrec(*line, cwd=tmp_path, PYTHONPATH=str(site))
    assert done.returncode == 0, done.stderr
    (made,) = find_runs(tmp_path / "runs")
    assert {n: t["weight"] for n, t in made.config["adaptation"].items()} == {"one": 0.5, "two": 1.0, "tiny_gap": 1.0}
    done = crossrec(*line, "hydra.searchpath=[]", cwd=tmp_path, PYTHONPATH=str(site))
    assert done.returncode == 1 and "hydra.searchpath and several --config-dir cannot be joined" in done.stderr


Launch = Callable[[Path, list[str]], list[str]]


def grid(folder: Path, small: list[str]) -> list[str]:
    return ["train", "-m", "strategy=mmd", "adaptation=[mmd,tiny_gap,mine]", "seed=0,1", *small]


def on_joblib(folder: Path, small: list[str]) -> list[str]:
    return [*grid(folder, small), "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


def study(folder: Path, small: list[str]) -> list[str]:
    overrides = ["strategy=mmd", "adaptation=[mmd,tiny_gap,mine]"]
    search = {"adaptation.tiny_gap.weight": {"log": [0.1, 1]}}
    text = {"title": "both", "base": small, "seeds": [0, 1], "metrics": ["ndcg@10"]}
    text["rows"] = {"both": {"overrides": overrides, "search": search}}
    (folder / "both.yaml").write_text(json.dumps(text))
    return ["sweep", "both.yaml", "-j", "2"]


def tune(folder: Path, small: list[str]) -> list[str]:
    study(folder, small)
    return ["tune", "both.yaml", "--trials", "2"]


@pytest.mark.slow
@pytest.mark.parametrize("launch", [grid, on_joblib, study, tune])
def test_other_processes_find_the_same_folders(
    launch: Launch, site: Path, small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(site, ["tiny_gap"])
    monkeypatch.setenv("PYTHONPATH", str(site))
    own(tmp_path / "conf", "mine", 0.5)
    words = [*launch(tmp_path, small), "--config-dir", "conf"]
    done = (here if launch is tune else crossrec)(*words, cwd=tmp_path)  # whose trials are processes of their own
    assert done.returncode == 0, done.stdout + done.stderr
    found = find_runs(tmp_path / "runs")
    assert len(found) == 2 and all(run.finished for run in found)
    assert all(run.config["adaptation"]["mine"]["weight"] == 0.5 for run in found)
    if launch is study:
        table = here("table", "both.yaml", "--config-dir", "conf", cwd=tmp_path)
        assert table.returncode == 0 and "both" in table.stdout, table.stderr


def test_a_weight_of_one_of_several_terms_is_swept(small: list[str], tmp_path: Path) -> None:
    words = ["strategy=mmd", "adaptation=[mmd,coral]", "-m", "adaptation.mmd.weight=0.1,1"]
    done = here("train", *words, *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = find_runs(tmp_path / "runs")
    assert sorted(run.config["adaptation"]["mmd"]["weight"] for run in found) == [0.1, 1]
    assert all(run.finished and list(run.config["adaptation"]) == ["mmd", "coral"] for run in found)
