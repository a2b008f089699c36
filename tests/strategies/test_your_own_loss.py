"""What README.md says of a loss of one's own, word for word."""

import csv
import re
from pathlib import Path

from running import REPO, crossrec

from crossrec.runs.summary import find_runs


def blocks() -> tuple[str, str]:
    """The loss and its yaml as README.md prints them."""
    text = (REPO / "README.md").read_text()
    python = re.search(r"```python\n(# my_losses\.py\n.*?)```", text, re.S)
    config = re.search(r"```yaml\n(# @package adaptation\.mean_gap\n.*?)```", text, re.S)
    assert python and config
    return python[1], config[1]


def test_four_lines_and_a_yaml_in_a_folder_of_ones_own_train(small: list[str], tmp_path: Path) -> None:
    loss, config = blocks()
    (tmp_path / "my_losses.py").write_text(loss)
    (tmp_path / "my_conf" / "adaptation").mkdir(parents=True)
    (tmp_path / "my_conf" / "adaptation" / "mean_gap.yaml").write_text(config)
    line = ["--config-dir", "my_conf", "strategy=mmd", "adaptation=[mmd,mean_gap]", "adaptation.mean_gap.weight=0.1"]
    done = crossrec("train", *line, *small, cwd=tmp_path, PYTHONPATH=".")
    assert done.returncode == 0, done.stderr
    (made,) = find_runs(tmp_path / "runs")
    assert made.finished
    assert made.config["adaptation"]["mean_gap"]["weight"] == 0.1
    with open(made.path / "log" / "metrics.csv") as file:
        values = [float(row["train/adaptation/meangap/0-1"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert len(values) == 2 and all(v > 0 for v in values)


def test_a_misspelt_loss_of_ones_own_is_told(small: list[str], tmp_path: Path) -> None:
    _, config = blocks()
    (tmp_path / "my_conf" / "adaptation").mkdir(parents=True)
    (tmp_path / "my_conf" / "adaptation" / "mean_gap.yaml").write_text(config)
    folder = ["--config-dir", "my_conf"]
    done = crossrec("train", *folder, "strategy=mmd", "adaptation=[mean_gab]", *small, cwd=tmp_path)
    assert done.returncode == 1
    assert "no option 'mean_gab' for adaptation; did you mean mean_gap" in done.stderr
    done = crossrec("train", *folder, "strategy=mmd", "adaptation=[mean_gap]", *small, cwd=tmp_path)
    assert done.returncode == 1
    assert "my_losses" in done.stderr and "Traceback" not in done.stderr
    (tmp_path / "my_conf" / "adaptation" / "mean_gap.yaml").write_text(config.partition("\n")[2])
    done = crossrec("train", *folder, "strategy=mmd", "adaptation=[mean_gap]", *small, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.endswith("its first line must be `# @package adaptation.NAME`\n")
    done = crossrec("train", "--config-dir", "nowhere", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == "crossrec train: error: --config-dir nowhere is not a folder"
