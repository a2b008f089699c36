"""A loss of one's own, as README.md prints it; from the wheel it is trained in test_wheel.py."""

import csv
from pathlib import Path

from readme import own_loss
from running import crossrec

from crossrec.runs.summary import find_runs


def test_a_file_and_a_yaml_in_a_folder_of_ones_own_train(small: list[str], tmp_path: Path) -> None:
    loss = own_loss()
    loss.write(tmp_path)
    done = crossrec(*loss.lines[1], *small, cwd=tmp_path, PYTHONPATH=".")
    assert done.returncode == 0, done.stderr
    (made,) = find_runs(tmp_path / "runs")
    assert made.finished
    assert made.config["adaptation"]["mean_gap"]["weight"] == 0.1
    with open(made.path / "log" / "metrics.csv") as file:
        values = [float(row["train/adaptation/meangap/0-1"]) for row in csv.DictReader(file) if row["train/loss"]]
    assert len(values) == 2 and all(v > 0 for v in values)


def test_a_misspelt_loss_of_ones_own_is_told(small: list[str], tmp_path: Path) -> None:
    config = own_loss().config
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
