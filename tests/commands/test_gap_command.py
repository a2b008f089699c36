import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest
import torch
from running import run

from crossrec.cli import main
from crossrec.data.splits import TRAIN, row_domains
from crossrec.errors import CrossrecError
from crossrec.runs.assemble import assemble, load_run
from crossrec.runs.gap import measure
from crossrec.runs.store import RunFolder
from crossrec.studies.gap_plot import principal_axes

NUMBERS = ("mmd", "low", "high", "p", "coral", "pad")


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit) as end:
        main(["gap", *(str(word) for word in words)])
    assert end.value.code == 1
    return capsys.readouterr().err


def test_two_runs_side_by_side(small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    merged = run([*small, "strategy=merged"])
    mmd = run([*small, "strategy=mmd", "adaptation.mmd.weight=10", "user_encoder=mean", "history_length=7"])
    capsys.readouterr()
    main(["gap", str(merged.path), str(mmd.path), str(merged.path), "-o", str(tmp_path / "out" / "gaps.csv")])
    out = capsys.readouterr().out
    assert f"users of {merged.id}: the vector of the user's id" in out
    assert f"users of {mmd.id}: the state after the user's last 7 training rows in all training domains" in out
    table = pl.read_csv(tmp_path / "out" / "gaps.csv")
    assert table["run"].to_list() == [merged.id] * 4 + [mmd.id] * 4
    assert table["stage"].to_list() == ["before", "after"] * 4
    written = []
    for made in (merged, mmd):
        assert (made.path / "gap.png").read_bytes().startswith(b"\x89PNG")
        record = json.loads((made.path / "gap.json").read_text())
        assert record["run"] == made.id and [p["space"] for p in record["pairs"]] == ["users", "items"]
        assert all(p["pair"] == ["a", "b"] for p in record["pairs"])
        written += [p[stage] for p in record["pairs"] for stage in ("before", "after")]
    assert table.select(NUMBERS).rows() == [tuple(gap[name] for name in NUMBERS) for gap in written]
    files = {path: path.read_bytes() for path in (merged.path / "gap.json", merged.path / "gap.png")}
    for path in files:
        path.unlink()
    main(["gap", str(merged.path)])
    assert files == {path: path.read_bytes() for path in files}


def test_vectors_are_those_of_the_initial_and_of_the_selected_weights(small: list[str]) -> None:
    made = run([*small, "strategy=mmd", "data.source.n_domains=3", "trainer.max_epochs=1"])
    measured = measure(made.path, rows=25)
    assert [p.pair for p in measured.pairs] == [("a", "b"), ("a", "c"), ("b", "c")] * 2
    _, after = load_run(made.path)
    before = assemble(made.config, after.corpus).model
    shown = measured.vectors["users"]["c"]
    assert torch.equal(shown.before, before.user_encoder(shown.ids)) and not torch.equal(shown.before, shown.after)
    assert torch.equal(shown.after, after.model.user_encoder(shown.ids))
    data = after.datamodule
    rows = (data.split.label == TRAIN) & (row_domains(after.corpus) == 2)
    trained = np.unique(after.corpus.interactions["user"].to_numpy()[rows])
    assert len(shown.ids) == 25 and np.isin(shown.ids.numpy(), trained).all()
    items = measured.vectors["items"]["b"]
    assert torch.equal(items.ids, items.ids.unique())
    everything = measure(made.path)
    assert torch.equal(everything.vectors["users"]["c"].ids, torch.from_numpy(trained))
    assert {p.space: p.rows[0] for p in everything.pairs}["items"] <= 60


def test_a_run_that_begins_with_another_begins_from_what_that_one_learnt(small: list[str], tmp_path: Path) -> None:
    words = [*small, "trainer.max_epochs=1", "optimizer.lr=0.05"]
    source = run(words)
    made = run([*words, "strategy=mmd", "seed=1", f"init.from={source.path}"])
    learnt, begun = (measure(one.path).vectors["users"]["a"] for one in (source, made))
    assert torch.equal(learnt.ids, begun.ids)
    assert torch.equal(learnt.after, begun.before) and not torch.equal(begun.before, begun.after)
    moved = RunFolder(Path(shutil.copytree(tmp_path / "runs", tmp_path / "copied")) / made.id)
    shutil.rmtree(source.path)
    assert torch.equal(measure(moved.path).vectors["users"]["a"].before, begun.before)
    metrics = moved.metrics
    (moved.path / "metrics.json").write_text(json.dumps({**metrics, "init": {**metrics["init"], "sha256": "0" * 64}}))
    with pytest.raises(CrossrecError, match=f"run {made.id} began with other weights than .*copied.*{source.id} has"):
        measure(moved.path)
    shutil.rmtree(moved.path.parent / source.id)
    with pytest.raises(CrossrecError, match=f"began with the weights of .*{source.id}, which is gone, so its gap"):
        measure(moved.path)


def test_training_on_a_distance_lessens_it(small: list[str]) -> None:
    # users that are in one domain alone, so that training pulls the domains apart unless it is told not to
    words = [*small, "data.source.overlap=0", "trainer.max_epochs=10", "optimizer.lr=0.03"]
    free, held = (run([*words, *more]) for more in (["strategy=merged"], ["strategy=mmd", "adaptation.mmd.weight=20"]))
    (users, _), (pulled, _) = measure(free.path).pairs, measure(held.path).pairs
    assert users.shared == pulled.shared == 0 and users.before == pulled.before
    assert pulled.after.mmd < users.after.mmd and users.after.p < 0.05


def test_without_matplotlib_the_numbers_are_written_and_the_picture_is_spoken_of(
    small: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = run([*small, "trainer.max_epochs=1"])
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    main(["gap", str(made.path), "--rows", "20"])
    assert "no gap.png: pictures need matplotlib: pip install 'crossrec[plots]'" in capsys.readouterr().out
    assert (made.path / "gap.json").is_file() and not (made.path / "gap.png").exists()


def test_umap_is_fitted_after_training_and_told_when_missing(
    small: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = run([*small, "trainer.max_epochs=1"])
    monkeypatch.setitem(sys.modules, "umap", None)
    assert "--picture umap needs umap-learn" in refused(capsys, made.path, "--picture", "umap")
    assert not (made.path / "gap.json").exists()
    fitted, moved = [], []

    class Umap:
        def __init__(self, *, random_state: int, n_jobs: int) -> None:
            assert random_state == 0 and n_jobs == 1

        def fit(self, x: np.ndarray) -> "Umap":
            fitted.append(x)
            return self

        def transform(self, x: np.ndarray) -> np.ndarray:
            moved.append(x)
            return x[:, :2]

    module = ModuleType("umap")
    monkeypatch.setattr(module, "UMAP", Umap, raising=False)
    monkeypatch.setitem(sys.modules, "umap", module)
    main(["gap", str(made.path), "--rows", "20", "--picture", "umap"])
    after = measure(made.path, 20).vectors
    assert [x.shape for x in fitted] == [(40, 8), (40, 8)] and len(moved) == 8
    assert np.array_equal(fitted[0], torch.cat([rows.after for rows in after["users"].values()]).double().numpy())
    assert (made.path / "gap.png").is_file()


def test_principal_axes_are_those_of_the_covariance() -> None:
    x = torch.randn(50, 5, generator=torch.Generator().manual_seed(0)).double() * torch.tensor([1.0, 5, 2, 1, 1])
    axes, shares = principal_axes(x)
    values, vectors = torch.linalg.eigh(torch.cov(x.T))
    assert torch.allclose(shares, values.flip(0)[:2] / values.sum())
    assert torch.allclose((axes * vectors.flip(1)[:, :2]).sum(0).abs(), torch.ones(2).double())
    assert (axes.gather(0, axes.abs().argmax(0, keepdim=True)) > 0).all()
    axes, shares = principal_axes(x[:, :1])
    assert axes.tolist() == [[1.0, 0.0]] and shares.tolist() == [1.0, 0.0]


@pytest.fixture
def finished(small: list[str]) -> RunFolder:
    return run([*small, "trainer.max_epochs=1", "dim=4"])


def test_mistakes_are_told_and_nothing_is_written(
    finished: RunFolder, small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone, popular = run([*small, "trainer.max_epochs=1", "strategy=target_only"]), run([*small, "strategy=popularity"])
    capsys.readouterr()
    path = finished.path
    assert f"run {alone.id} trained on 'b' alone" in refused(capsys, path, alone.path)
    assert f"run {popular.id} has no vectors that training moves (Popularity" in refused(capsys, path, popular.path)
    assert "--rows is 9: give at least 10" in refused(capsys, path, "--rows", 9)
    assert "-o is gaps.json: end its name in .csv" in refused(capsys, path, "-o", "gaps.json")
    assert "no run folder nowhere" in refused(capsys, path, "nowhere")
    assert "is not a run folder" in refused(capsys, path, tmp_path)
    lost = RunFolder(tmp_path / "runs" / "lost")
    shutil.copytree(path, lost.path)
    lost.best.unlink()
    assert f"run lost has lost {lost.best}: delete the run's folder" in refused(capsys, lost.path)
    lost.mark("failed")
    assert "run lost is failed: train it to its end" in refused(capsys, lost.path)
    assert not list((tmp_path / "runs").rglob("gap.*"))


def test_a_domain_with_few_rows_is_told(small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    made = run([*small, "trainer.max_epochs=1", "data.source.n_users=8"])
    assert f"domain 'a' of run {made.id} has 8 users with training rows: a gap needs 10" in refused(capsys, made.path)


def test_vectors_that_are_not_finite_are_told(finished: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    state = torch.load(finished.best, weights_only=True)
    for name, weights in state["state_dict"].items():
        if name.startswith("item_encoder."):
            weights.fill_(torch.nan)
    torch.save(state, finished.best)
    assert f"run {finished.id} has items whose vectors are not finite" in refused(capsys, finished.path)
