import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from running import run

from crossrec.cli import main
from crossrec.errors import CrossrecError
from crossrec.evaluation.significance import bootstrap_interval, holm, permutation_test
from crossrec.runs.store import RunFolder
from crossrec.studies.compare import RunComparison, compare_runs, config_differences, frame
from crossrec.studies.compare_plots import learning_curves, plot_learning_curves
from crossrec.studies.pairing import paired_users


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three runs of two epochs: target_only in b, merged in both domains, popularity in both."""
    folder = tmp_path_factory.mktemp("compare")
    words = [
        f"paths.runs={folder / 'runs'}", f"paths.prepared={folder / 'prepared'}", "data.source.n_users=80",
        "data.source.n_items=40", "data.source.interactions_per_user=6", "trainer.max_epochs=2", "batch_size=64",
        "trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "dim=8", "optimizer.lr=0.05",
    ]  # fmt: skip
    return {
        "alone": run([*words, "strategy=target_only", "target=b"]).path,
        "merged": run([*words, "target=all", "seed=1"]).path,
        "popular": run([*words, "strategy=popularity", "target=all"]).path,
    }


@pytest.fixture(scope="module")
def made(trained: dict[str, Path]) -> RunComparison:
    return compare_runs([trained["alone"], trained["merged"]])


@pytest.fixture
def copy(trained: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """Copy a run, to break it."""

    def copied(name: str) -> Path:
        return Path(shutil.copytree(trained[name], tmp_path / f"{name}-copy"))

    return copied


def changed(file: Path, **values: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_config_keys_that_differ_are_flat() -> None:
    a = {"seed": 0, "dim": 8, "adaptation": {}, "paths": {"runs": "x"}, "ks": [1, 5], "item": {"cache_dir": "y"}}
    b = {"seed": 1, "dim": 8, "adaptation": {"mmd": {"weight": 0.5}}, "paths": {"runs": "z"}, "ks": [1], "item": {}}
    assert config_differences([a, b]) == {
        "adaptation.mmd.weight": ("-", "0.5"), "ks": ("[1, 5]", "[1]"), "seed": ("0", "1"),
    }  # fmt: skip
    assert config_differences([a, a]) == {}
    assert config_differences([{"positive_rating": None}, {}]) == {}
    assert config_differences([{"adaptation": {"mmd": {"name": "mmd"}}}, {"adaptation": {"mmd": {}}}]) == {}
    assert config_differences([{"positive_rating": 4}, {}]) == {"positive_rating": ("4", "-")}
    one, two = ({"tuning": {"rank": rank}, "item_encoder": {"tuning": {"rank": rank}}} for rank in (4, 8))
    assert config_differences([one, two]) == {"tuning.rank": ("4", "8")}


def test_what_differs_is_found(made: RunComparison) -> None:
    assert made.words == {"A": "strategy=target_only target=b seed=0", "B": "strategy=merged target=all seed=1"}
    assert set(made.config) == {"seed", "strategy._target_", "strategy.domain_weights", "target"}
    assert made.config["target"] == ("b", "all")


def test_test_metrics_are_the_runs_own(made: RunComparison, trained: dict[str, Path]) -> None:
    tests = [RunFolder(trained[name]).metrics["test"] for name in ("alone", "merged")]
    assert {domain for domain, _ in made.test} == {"b"}  # macro is not over the same domains
    assert made.test["b", "ndcg@10"] == tuple(test["test/b/ndcg@10"] for test in tests)
    assert any("evaluated in a: left out" in note for note in made.notes)
    assert any("Seeds differ" in note for note in made.notes)


def test_users_are_compared_with_the_first_run(trained: dict[str, Path]) -> None:
    made = compare_runs([trained["merged"], trained["popular"]], "auc")
    assert [(row.label, row.domain) for row in made.paired] == [("B", "a"), ("B", "b"), ("B", "macro")]
    for row in made.paired:
        users = paired_users({0: trained["popular"]}, {0: trained["merged"]}, row.domain, "auc")
        values = users["difference"].to_numpy()
        assert row.wins == (values > 1e-12).sum() and row.losses == (values < -1e-12).sum()
        assert row.wins + row.ties + row.losses == len(values)
        assert row.difference == pytest.approx(
            made.test[row.domain, "auc"][1] - made.test[row.domain, "auc"][0], abs=1e-6
        )
        assert (row.low, row.high) == bootstrap_interval(values)
        assert row.p == permutation_test(values)
    assert [row.p_holm for row in made.paired] == holm([row.p for row in made.paired])


def test_the_frame_has_every_metric_and_the_users_where_they_were_compared(made: RunComparison) -> None:
    table = frame(made)
    assert table.height == 2 * len(made.test)
    assert table.filter(pl.col("p").is_not_null()).select("label", "domain", "metric").rows() == [("B", "b", "ndcg@10")]
    row = table.row(by_predicate=(pl.col("label") == "B") & (pl.col("metric") == "ndcg@10"), named=True)
    assert row["difference"] == pytest.approx(row["value"] - made.test["b", "ndcg@10"][0])
    assert row["p_holm"] == made.paired[0].p_holm


def test_learning_curves_are_of_trained_epochs(trained: dict[str, Path]) -> None:
    run = RunFolder(trained["alone"])
    curve = learning_curves(run)
    assert curve is not None and curve["epoch"].to_list() == [0, 1]  # without the evaluation after training
    record = run.metrics
    assert curve["valid"][record["best_epoch"]] == pytest.approx(record["best_score"], rel=1e-5)
    assert curve["loss"][1] < curve["loss"][0]
    assert learning_curves(RunFolder(trained["popular"])) is None


def test_a_picture_shows_every_curve_and_the_selected_epochs(
    trained: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    drawn = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (drawn.append(self), save(self, *a, **k)))
    runs = {"A": RunFolder(trained["alone"]), "B": RunFolder(trained["popular"]), "C": RunFolder(trained["merged"])}
    files = plot_learning_curves(runs, {"A": "alone", "B": "popular", "C": "merged"}, tmp_path)
    assert [f.name for f in files] == ["learning_curves.png", "learning_curves.pdf"]
    assert sorted(f.name for f in tmp_path.iterdir()) == sorted(f.name for f in files)
    left, right = drawn[0].axes
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["A  alone", "C  merged", "selected epoch"]
    assert len({(line.get_linestyle(), line.get_marker()) for line in left.lines[::2]}) == 3
    for axes in (left, right):
        for label, curve, circle in (("A", *axes.lines[:2]), ("C", *axes.lines[2:4])):
            best = runs[label].metrics["best_epoch"]
            assert circle.get_xdata().tolist() == [best]
            assert circle.get_ydata().tolist() == [curve.get_ydata()[best]]
    assert plot_learning_curves({"B": runs["B"]}, {"B": "popular"}, tmp_path / "none") == []


def test_the_command_prints_and_writes(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trained["alone"].parents[1])  # ids are found below runs/
    out = tmp_path / "out"
    main(["compare", trained["alone"].name, str(trained["merged"]), "-m", "recall@10", "-o", str(out)])
    printed = capsys.readouterr().out
    made = compare_runs([trained["alone"], trained["merged"]], "recall@10")
    row = made.paired[0]
    text = (out / "compare.md").read_text()
    for words in (
        trained["merged"].name,
        f"{row.difference:+.4f}",
        f"{row.wins:,}",
        "strategy=merged target=all seed=1",
    ):
        assert words in printed and words in text
    assert "| strategy._target_ | TargetOnly | Merged |" in text
    assert "## users: recall@10 against A" in text and "![learning curves](learning_curves.png)" in text
    assert pl.read_csv(out / "compare.csv").height == 2 * len(made.test)
    names = ["compare.csv", "compare.md", "learning_curves.pdf", "learning_curves.png"]
    assert sorted(f.name for f in out.iterdir()) == names
    before = {name: (out / name).read_bytes() for name in names}
    main(["compare", str(trained["alone"]), str(trained["merged"]), "-m", "recall@10", "-o", str(out)])
    assert {name: (out / name).read_bytes() for name in names} == before


def test_runs_without_a_log_have_no_picture(
    trained: dict[str, Path], copy: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["compare", str(trained["popular"]), str(copy("popular")), "-o", str(tmp_path / "out")])
    printed = capsys.readouterr().out
    assert (
        "No learning curve of B: popularity does not train." in printed and "config: keys that differ: none" in printed
    )
    assert sorted(f.name for f in (tmp_path / "out").iterdir()) == ["compare.csv", "compare.md"]


def test_runs_are_told_apart_by_what_changes_their_numbers(
    trained: dict[str, Path], copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    other = copy("merged")
    words = ["logger=wandb", "logger.tags=[x]", "trainer.devices=2", "paths.runs=y", "+hydra.x=1", "dim=8", "seed=2"]
    (other / "overrides.json").write_text(json.dumps(words))
    config = (other / "config.yaml").read_text().replace("loggers.CSVLogger", "x.Log")
    config = re.sub("^seed: 1$", "seed: 2", config, flags=re.M)
    (other / "config.yaml").write_text(config)
    (other / "log" / "metrics.csv").unlink()
    made = compare_runs([trained["merged"], other])
    assert made.words == {"A": "seed=1", "B": "seed=2"} and made.config == {"seed": ("1", "2")}
    main(["compare", str(trained["merged"]), str(other), "-o", str(tmp_path / "out")])
    said = "No learning curve of B: its folder has no log/metrics.csv"
    assert said in capsys.readouterr().out and said in (tmp_path / "out" / "compare.md").read_text()
    assert (tmp_path / "out" / "learning_curves.png").is_file()


def test_without_matplotlib_the_extra_is_named(
    trained: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(SystemExit):
        main(["compare", str(trained["alone"]), str(trained["merged"]), "-o", str(tmp_path / "out")])
    assert "pip install 'crossrec[plots]'" in capsys.readouterr().err


def test_folders_that_are_no_finished_runs_are_told(
    trained: dict[str, Path], tmp_path: Path, copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(trained["alone"].parents[1])
    alone = trained["alone"]
    misspelt = alone.name.replace("target", "taget")
    running = copy("merged")
    changed(running / "status.json", state="running")
    for words, message in (
        ([alone.name], "compare takes 2 to 26 run folders, not 1"),
        ([alone.name, str(alone)], f"{alone.name} is given twice"),
        ([alone.name, misspelt], f"no run of that id below runs/; did you mean {alone.name}"),
        ([alone.name, str(tmp_path)], "is not a run folder"),
        ([alone.name, str(running)], "merged-copy is running, not finished"),
        ([alone.name, trained["merged"].name, "-m", "ndgc@10"], "no test metric 'ndgc@10'"),
        ([alone.name, trained["merged"].name, "-m", "coverage@10"], "coverage@10 is of all lists together"),
    ):
        with pytest.raises(SystemExit) as end:
            main(["compare", *words])
        assert end.value.code == 1
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("file", ["metrics.json", "corpus.json", "overrides.json", "config.yaml", "per_user/b.parquet"])
def test_a_broken_file_is_named(trained: dict[str, Path], copy: Callable[[str], Path], file: str) -> None:
    broken = copy("merged") / file
    broken.write_bytes(broken.read_bytes()[:-20] + (b"\n: [" if file == "config.yaml" else b""))
    with pytest.raises(CrossrecError, match=rf"merged-copy/{file} is broken \(.*\): delete it"):
        compare_runs([trained["alone"], broken.parents[file.count("/")]])


def test_runs_that_cannot_be_compared_are_told(trained: dict[str, Path], copy: Callable[[str], Path]) -> None:
    other = copy("merged")
    changed(other / "corpus.json", fingerprint="0" * 64)
    with pytest.raises(CrossrecError, match=r"are on different data .* 000000000000"):
        compare_runs([trained["alone"], other])
    shutil.copy(trained["merged"] / "corpus.json", other / "corpus.json")
    config = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(config.replace("min_train: 1", "min_train: 2"))
    with pytest.raises(CrossrecError, match=r"are split differently \(split.min_train is 1 and 2\)"):
        compare_runs([trained["alone"], other])
    (other / "config.yaml").write_text(config)
    metrics = RunFolder(other).metrics
    changed(other / "metrics.json", test={k: v for k, v in metrics["test"].items() if "/b/" not in k})
    with pytest.raises(CrossrecError, match=r"no evaluated domain in common \(.*: b; merged-copy: a\)"):
        compare_runs([trained["alone"], other])
    changed(other / "metrics.json", test=metrics["test"], protocol="sampled")
    with pytest.raises(CrossrecError, match=r"evaluated under protocol sampled, .* under full"):
        compare_runs([trained["alone"], other])
