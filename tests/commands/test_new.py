import inspect
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from running import REPO, crossrec

from crossrec.adaptation import adversarial, base
from crossrec.cli import main
from crossrec.commands.new import KINDS, class_name, commands, write
from crossrec.config import compose, options, plain
from crossrec.errors import CrossrecError
from crossrec.runs.summary import find_runs


def test_the_files_of_every_kind_pass_their_test_and_train_as_printed(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "with space"
    lines = {}
    for kind in KINDS:
        main(["new", "adaptation", f"my_{kind}", "--kind", kind, "--into", str(folder)])
        lines[kind] = [shlex.split(line) for line in capsys.readouterr().out.splitlines()[-2:]]
        assert lines[kind] == [shlex.split(line) for line in commands(f"my_{kind}", kind, folder)]
    (python, *tested), (variable, program, *trained) = lines["pairwise"]
    assert (python, program) == ("python", "crossrec")
    files = [lines[kind][0][-1] for kind in KINDS]  # one process for all
    words = [sys.executable, *tested[:-1], *files, "-p", "no:cacheprovider"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert f"{6 * len(KINDS)} passed" in done.stdout
    every = [f"my_{kind}" for kind in KINDS if kind != "paired"]  # whose users have one vector under strategy=mmd
    trained = [word.replace("[mmd,my_pairwise]", f"[mmd,{','.join(every)}]") for word in trained]
    done = crossrec(*trained, *small, cwd=tmp_path, PYTHONPATH=variable.partition("=")[2])
    assert done.returncode == 0, done.stderr
    (made,) = find_runs(tmp_path / "runs")
    assert made.finished and made.config["adaptation"]["my_pairwise"]["weight"] == 0.1
    logged = (made.path / "log" / "metrics.csv").read_text()
    assert all(f"adaptation/{name}/" in logged for name in every)
    alone = crossrec(*lines["paired"][1][2:], *small, cwd=tmp_path, PYTHONPATH=variable.partition("=")[2])
    assert alone.returncode == 0, alone.stderr
    (other,) = [run for run in find_runs(tmp_path / "runs") if run.id != made.id]
    assert "adaptation/my_paired/" in (other.path / "log" / "metrics.csv").read_text()


@pytest.mark.parametrize("kind", KINDS)
def test_the_config_names_every_option_with_its_default_and_a_comment(kind: str, tmp_path: Path) -> None:
    path = write("my_gap", kind, tmp_path)["config"]
    node = compose(["adaptation=[my_gap]"], config_dirs=[tmp_path / "conf"]).adaptation.my_gap
    module = adversarial if kind == "adversarial" else base
    kinds = inspect.getmro(getattr(module, class_name(kind) + "Adaptation"))
    takes = [p for c in kinds if issubclass(c, base.Adaptation) for p in inspect.signature(c).parameters.values()]
    defaults = {p.name: p.default for p in takes if p.kind is p.KEYWORD_ONLY and p.name != "name"}
    own = {"dim": 64, "seed": 0} if kind == "adversarial" else {}
    assert {**defaults, **own, "_target_": "my_gap.MyGap"} == plain(node)
    lines = path.read_text().splitlines()
    assert lines[0] == "# @package adaptation.my_gap"
    assert options("adaptation", [tmp_path / "conf"])["my_gap"] == KINDS[kind].summary
    bare = [b for a, b in pairwise(lines) if not a.startswith("#") and not b.startswith("#")]
    assert not bare


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("my-gap", "cannot name a Python module: use small letters"),
        ("2gap", "cannot name a Python module"),
        ("MyGap", "cannot name a Python module"),
        ("", "cannot name a Python module"),
        ("class", "means something else"),
        ("null", "means something else"),
        ("none", "means something else"),  # its class would be None
        ("tensor", "means something else"),  # its class would hide torch's
        ("mmd", "adaptation=mmd is there already"),
        ("json", "'json' is a module that Python can import already: choose another, as in my_json"),
        ("crossrec", "can import already"),
        ("items", "attribute of every torch module"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused(name: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(CrossrecError, match=told):
        write(name, "pairwise", tmp_path / "new")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", ["my_gap.py", "test_my_gap.py", "conf/adaptation/my_gap.yaml", "my_gap/__init__.py"])
def test_nothing_is_written_where_one_of_the_files_is(there: str, tmp_path: Path) -> None:
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / there).write_text("mine")
    with pytest.raises(CrossrecError, match="is there already: nothing is overwritten"):
        write("my_gap", "pairwise", tmp_path)
    assert [p.read_text() for p in tmp_path.rglob("*") if p.is_file()] == ["mine"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(CrossrecError, match="is a file, not a folder"):
        write("my_gap", "pairwise", tmp_path / "file")
    (tmp_path / "conf").write_text("mine")
    with pytest.raises(CrossrecError, match=r"cannot write .*conf"):
        write("my_gap", "pairwise", tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["conf", "file"]


def test_the_study_of_the_readme_composes_and_its_function_trains(small: list[str], tmp_path: Path) -> None:
    readme = (REPO / "README.md").read_text()
    study = re.search(r"```yaml\n(# my_gap\.yaml.*?)```", readme, re.S)
    code = re.search(r"```python\n(# my_losses\.py\n.*?)```", readme, re.S)
    line = re.search(r"PYTHONPATH=\. crossrec (train .*function=my_losses\.mean_gap)\n", readme)
    assert study and code and line
    write("my_gap", "pairwise", tmp_path)
    (tmp_path / "my_gap_study.yaml").write_text(study[1].replace("data=movielens", ", ".join(small)))
    done = crossrec("sweep", "my_gap_study.yaml", "--dry-run", cwd=tmp_path, PYTHONPATH=".")
    assert done.returncode == 0, done.stderr
    assert len(set(re.findall(r"synthetic-mmd-\w{12}", done.stdout))) == 12
    (tmp_path / "my_losses.py").write_text(code[1])
    done = crossrec(*shlex.split(line[1]), *small, cwd=tmp_path, PYTHONPATH=".")
    assert done.returncode == 0, done.stderr
    assert "adaptation/function/0-1" in next((tmp_path / "runs").glob("*/log/metrics.csv")).read_text()
