import functools
import json
import shutil
from pathlib import Path

import polars as pl
import pytest
from running import run
from study_files import write_study

from crossrec.cli import main
from crossrec.data.prepare import prepare
from crossrec.errors import CrossrecError
from crossrec.runs.record import write_record
from crossrec.runs.store import RunFolder, write_json
from crossrec.studies.pairing import pairs
from crossrec.studies.records import KnownCorpus, read_records
from crossrec.studies.selection import Selection, select

FILES = {
    "config.yaml", "overrides.json", "versions.json", "corpus.json", "identity.json", "status.json", "metrics.json",
    "fit.json", "log", "per_user",
}  # fmt: skip


def swept(study: Path, seeds: tuple[int, ...] = (0, 1)) -> Selection:
    chosen = select(study, [])
    for planned in chosen.jobs:
        if planned.job.seed in seeds:
            run(list(planned.job.overrides))
    return chosen


@pytest.fixture
def study(small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_study(tmp_path, [*small, "trainer.max_epochs=1"], baseline="popularity")


def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take runs and prepared corpora away, and let nobody prepare one."""
    shutil.rmtree(tmp_path / "runs", ignore_errors=True)

    @functools.wraps(prepare)
    def gone(*_: object, **__: object) -> None:
        raise CrossrecError("there are no data")

    monkeypatch.setattr("crossrec.runs.corpus.prepare", gone)


def test_a_table_is_printed_from_its_records_without_runs_and_data(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = swept(study)
    out = tmp_path / "results"
    main(["table", str(study), "-o", str(out), "--with-runs"])
    assert f"records of 4 runs in {out / 'runs'}" in capsys.readouterr().err
    before = {path.name: path.read_bytes() for path in out.glob("table.*")}
    for planned in chosen.jobs:
        record = RunFolder(out / "runs" / planned.run.id)
        names = {path.name for path in record.path.iterdir()}
        assert names == (FILES if planned.job.row == "merged" else FILES - {"fit.json"})
        everything = "".join(p.read_text() for p in record.path.rglob("*") if p.suffix in (".json", ".yaml", ".csv"))
        assert str(tmp_path) not in everything and "/tmp" not in everything
        assert not {"host", "pid", "error"} & record.status.keys() and "platform" not in record.versions
        users = pl.read_parquet(record.path / "per_user" / "a.parquet")
        assert users.columns == ["name", "n_relevant", "n_seen", "recall@10", "ndcg@10"]
        whole = pl.read_parquet(planned.run.path / "per_user" / "a.parquet", columns=users.columns)
        assert users.equals(whole.sort("name"))

    away(tmp_path, monkeypatch)
    main(["table", str(study), "--recorded", str(out), "-o", str(tmp_path / "again")])
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").glob("table.*")} == before
    capsys.readouterr()
    main(["table", str(study), "--recorded", str(out), "--trace", "merged", "ndcg@10"])
    traced = capsys.readouterr().out
    assert f"run      {out / 'runs'}/synthetic-merged-" in traced and "paths." not in traced
    main(["sweep", str(study), "--recorded", str(out)])  # nothing is left, so nothing needs data
    assert "4 of 4 runs finished" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["table", str(study)])
    assert "there are no data" in capsys.readouterr().err


def test_a_sweep_trains_only_what_has_no_record_and_a_run_wins_over_its_record(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swept(study, seeds=(0,))
    main(["table", str(study), "-o", "results", "--with-runs"])
    shutil.rmtree(tmp_path / "runs")
    capsys.readouterr()
    main(["sweep", str(study), "--recorded", "results", "--dry-run"])
    shown = capsys.readouterr().out
    assert shown.count("│ recorded ") == 2 and shown.count("│ new ") == 2
    states = {p.job.seed: p.run.state for p in select(study, [], recorded=Path("results"), trains=True).jobs}
    assert states == {0: "recorded", 1: "new"}

    swept(study, seeds=(1,))
    main(["table", str(study), "--recorded", "results", "-o", "results", "--with-runs"])
    assert len(list((tmp_path / "results" / "runs").iterdir())) == 4
    jobs = select(study, [], recorded=Path("results")).jobs
    assert {p.run.path.parent.parent.name for p in jobs if p.job.seed == 0} == {"results"}
    assert {p.run.path.parent for p in jobs if p.job.seed == 1} == {tmp_path / "runs"}


def test_records_of_other_data_are_not_mixed_into_a_sweep(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swept(study, seeds=(0,))
    main(["table", str(study), "-o", "results", "--with-runs"])
    monkeypatch.setattr("crossrec.studies.jobs._prepared", lambda config: KnownCorpus("f" * 64, ("a", "b")))
    assert select(study, [], recorded=Path("results")).notes == ()
    with pytest.raises(CrossrecError, match="the data are not those of the records in results"):
        select(study, [], recorded=Path("results"), trains=True)


def test_a_table_says_that_the_raw_data_here_are_others_than_the_records(
    small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [f"u{u},i{(u * 7 + k * 3) % 20},{k}" for u in range(30) for k in range(5)]
    (tmp_path / "a.csv").write_text("\n".join(["user,item,time", *rows]) + "\n")
    data = ["data=tabular", "data.source.domains={a: {interactions: a.csv}}"]
    words = [*(w for w in small if not w.startswith("data.")), *data, "trainer.max_epochs=1"]
    study = write_study(tmp_path, words, rows={"popularity": ["strategy=popularity"]}, seeds=[0])
    swept(study)
    main(["table", str(study), "-o", "results", "--with-runs"])
    shutil.rmtree(tmp_path / "runs")
    capsys.readouterr()
    main(["table", str(study), "--recorded", "results"])
    assert "raw data" not in capsys.readouterr().out
    (tmp_path / "a.csv").write_text("\n".join(["user,item,time", *rows, "u0,i0,9"]) + "\n")
    main(["table", str(study), "--recorded", "results"])
    said = " ".join(capsys.readouterr().out.split())
    assert "The raw data here are not those of the records in results (corpora " in said
    (tmp_path / "a.csv").unlink()
    main(["table", str(study), "--recorded", "results"])
    assert "raw data" not in capsys.readouterr().out


def test_a_record_that_was_changed_is_refused(study: Path, tmp_path: Path) -> None:
    swept(study, seeds=(0,))
    main(["table", str(study), "-o", "results", "--with-runs"])
    record = next((tmp_path / "results" / "runs").glob("synthetic-merged-*"))
    config = record / "config.yaml"
    config.write_text(config.read_text().replace("dim: 8\n", "dim: 9\n"))
    with pytest.raises(CrossrecError, match=f"{record.name} is not the record of the run it is named after"):
        read_records(tmp_path / "results")
    with pytest.raises(CrossrecError, match=r"no records in .*nothing/runs: `crossrec table STUDY -o"):
        read_records(tmp_path / "nothing")


def test_what_needs_weights_says_that_a_record_has_none(
    small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = run([*small, "trainer.max_epochs=1"])
    record = write_record(made, tmp_path / "records", ["ndcg@10"], ["a", "b"])
    for command in ("evaluate", "gap", "recommend"):
        with pytest.raises(SystemExit):
            main([command, str(record.path)])
        said = capsys.readouterr().err
        assert f"{record.path} is the record of a run and has no weights; this line trains it again: crossrec" in said
        assert said.rstrip().endswith("dim=8 trainer.max_epochs=1") and "paths." not in said


def test_code_and_models_of_ones_own_count_by_their_recorded_hashes(
    small: list[str], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "a_recorded_loss.py").write_text(
        "def gap(a, b):\n    return (a.mean(0) - b.mean(0)).abs().sum()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "code"))
    loss = ["strategy=mmd", "adaptation=[function]", "adaptation.function.function=a_recorded_loss.gap"]
    text = ["item_encoder=text", f"item_encoder.model={tiny_model}", "item_encoder.whitening_dim=4"]
    made = run([*small, *loss, *text, "trainer.max_epochs=1"])
    record = write_record(made, tmp_path / "results" / "runs", ["ndcg@10"], ["a", "b"])
    monkeypatch.undo()
    shutil.rmtree(tmp_path / "code")
    records = read_records(tmp_path / "results")
    assert list(records.runs) == [made.id]
    assert set(records.outside) == {"source a_recorded_loss.gap", f"model .../{tiny_model.name} mean  64"}
    assert f"item_encoder.model=.../{tiny_model.name}" in record.overrides


def test_candidates_are_compared_by_their_hashes(small: list[str], tmp_path: Path) -> None:
    words = [*small, "strategy=popularity", "evaluation=sampled_99", "evaluation.n_candidates=5"]
    both, one, other = (run([*words, *more]) for more in ([], ["dim=4"], ["seed=1"]))
    record = write_record(both, tmp_path / "records", ["ndcg@10"], ["a", "b"])
    assert not (record.path / "candidates.safetensors").exists()
    assert pairs({0: record.path}, {0: one.path}, "a", "ndcg@10").by_seed == {0: 0.0}
    with pytest.raises(CrossrecError, match="ranked against different candidates of 'a'"):
        pairs({0: record.path}, {0: other.path}, "a", "ndcg@10")


def test_a_record_keeps_what_gap_and_transfer_found(study: Path, tmp_path: Path) -> None:
    chosen = swept(study, seeds=(0,))
    made = next(p.run for p in chosen.jobs if p.job.row == "merged")
    write_json(made.path / "gap.json", {"run": made.id, "pairs": []})
    line = f"crossrec train --config-dir {tmp_path} data=tabular 'x={tmp_path}/a b' paths.runs={tmp_path} dim=8"
    write_json(made.path / "transfer.json", {"missing": [{"domain": "a", "seed": 0, "line": line}]})
    record = write_record(made, tmp_path / "records", ["ndcg@10"], ["a", "b"])
    assert (record.path / "gap.json").read_text() == (made.path / "gap.json").read_text()
    (missing,) = json.loads((record.path / "transfer.json").read_text())["missing"]
    assert missing["line"] == "crossrec train data=tabular 'x=.../a b' dim=8"
    copied = write_record(record, tmp_path / "copies", ["ndcg@10"], ["a", "b"])
    assert copied.path.parent.name == "copies" and copied.state == "recorded" and copied.metrics == made.metrics
    with pytest.raises(CrossrecError, match="is where the runs themselves lie"):
        write_record(made, made.path.parent, ["ndcg@10"], ["a", "b"])


def test_words_that_do_not_go_together_are_refused(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, said in (
        (["--with-runs"], "add -o FOLDER"),
        (["-o", "t.md"], "-o t.md is to be a folder, for the table in every format: name one"),
        (["--recorded", "nothing"], "no records in nothing/runs"),
    ):
        with pytest.raises(SystemExit):
            main(["table", str(study), *words])
        assert said in capsys.readouterr().err
    (tmp_path / "runs").mkdir()
    with pytest.raises(SystemExit):
        main(["table", str(tmp_path / "runs"), "--recorded", "results"])
    assert "--recorded and --with-runs are for study files" in capsys.readouterr().err
