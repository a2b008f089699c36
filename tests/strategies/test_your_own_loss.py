"""A loss of one's own, as README.md prints it; from the wheel it is trained in test_wheel.py."""

import csv
from pathlib import Path

from readme import own_loss
from running import crossrec, here

from crossrec.runs.summary import find_runs


def test_a_file_and_a_yaml_in_a_folder_of_ones_own_train(small: list[str], tmp_path: Path) -> None:
    loss = own_loss()
    loss.write(tmp_path)
    of_items = "# @package adaptation.item_gap\ndefaults: [mean_gap@_here_, _self_]\nspace: items\n"
    (tmp_path / "my_conf" / "adaptation" / "item_gap.yaml").write_text(of_items)
    with open(tmp_path / "my_losses.py", "a") as file:  # a class that takes no options of ours
        file.write("\n\nclass Bare(MeanGap):\n    def __init__(self):\n        super().__init__(weight=0.2)\n")
    bare = "# @package adaptation.plain\n_target_: my_losses.Bare\n"
    (tmp_path / "my_conf" / "adaptation" / "plain.yaml").write_text(bare)
    words = [word.replace(",mean_gap]", ",mean_gap,item_gap,plain]") for word in loss.lines[1]]
    done = crossrec(*words, "adaptation.item_gap.weight=-1", *small, cwd=tmp_path, PYTHONPATH=".")
    assert "adaptation.item_gap.weight=-1 must be a finite number" in done.stderr
    done = crossrec(*words, *small, cwd=tmp_path, PYTHONPATH=".")
    assert done.returncode == 0, done.stderr
    (made,) = find_runs(tmp_path / "runs")
    assert made.finished
    assert made.config["adaptation"]["mean_gap"]["weight"] == 0.1
    with open(made.path / "log" / "metrics.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    users, items, again = (
        [float(row[f"train/adaptation/{name}/0-1"]) for row in rows] for name in ("mean_gap", "item_gap", "plain")
    )
    assert users == again
    assert len(users) == 2 and all(a != b for a, b in zip(users, items)) and min(*users, *items) > 0


def test_a_misspelt_loss_of_ones_own_is_told(small: list[str], tmp_path: Path) -> None:
    config = own_loss().config
    (tmp_path / "my_conf" / "adaptation").mkdir(parents=True)
    (tmp_path / "my_conf" / "adaptation" / "mean_gap.yaml").write_text(config)
    folder = ["--config-dir", "my_conf"]
    done = here("train", *folder, "strategy=mmd", "adaptation=[mean_gab]", *small, cwd=tmp_path)
    assert done.returncode == 1
    assert "no option 'mean_gab' for adaptation; did you mean mean_gap" in done.stderr
    done = here("train", *folder, "strategy=mmd", "adaptation=[mean_gap]", *small, cwd=tmp_path)
    assert done.returncode == 1
    assert "my_losses" in done.stderr and "Traceback" not in done.stderr
    (tmp_path / "my_conf" / "adaptation" / "mean_gap.yaml").write_text(config.partition("\n")[2])
    done = here("train", *folder, "strategy=mmd", "adaptation=[mean_gap]", *small, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.endswith("its first line must be `# @package adaptation.NAME`\n")
    done = here("train", "--config-dir", "nowhere", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == "crossrec train: error: --config-dir nowhere is not a folder"
