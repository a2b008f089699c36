import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb_records as on_disk

from crossrec.errors import CrossrecError
from crossrec.studies.table import Cell, Column, Table, Value
from crossrec.studies.upload import COLUMNS, log_table, table_rows

wandb = pytest.importorskip("wandb", reason="pip install 'crossrec[wandb]'")

COLUMN = Column("movielens", "ml_100k", "ndcg@10")
RUN = Cell(
    "mmd", COLUMN, (Value(0, 0.2, "r0"), Value(1, 0.4, "r1")), 2, 0.3, 0.1414, published=0.31, status="reproduced"
)
EMPTY = Cell("cmf", COLUMN, (), 2)
TABLE = Table("table 2/small", "Table 2", ("cmf", "mmd"), (COLUMN,), {("mmd", COLUMN): RUN, ("cmf", COLUMN): EMPTY})


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in ("API_KEY", "MODE", "RUN_GROUP", "JOB_TYPE"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    home = {"CONFIG_DIR": tmp_path, "CACHE_DIR": tmp_path, "DATA_DIR": tmp_path, "BASE_URL": "http://127.0.0.1:9"}
    for name, value in {**home, "SILENT": "true"}.items():
        monkeypatch.setenv(f"WANDB_{name}", str(value))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    made = [tmp_path / "table.md", tmp_path / "plot.png"]
    for path in made:
        path.write_bytes(path.name.encode())
    return made


def log(folder: Path, files: list[Path], **more: Any) -> bool:
    return log_table(TABLE, files, **{"project": "p", "group": "table2", "offline": None, "folder": folder, **more})


def test_the_cells_in_the_order_of_the_table() -> None:
    assert table_rows(TABLE) == [
        ["cmf", "movielens", "ml_100k", "ndcg@10", None, None, 0, None, "not run"],
        ["mmd", "movielens", "ml_100k", "ndcg@10", 0.3, 0.1414, 2, 0.31, "reproduced"],
    ]


def test_a_run_holds_the_cells_and_the_files(tmp_path: Path, files: list[Path], capsys: pytest.CaptureFixture) -> None:
    assert log(tmp_path / "out", files)
    assert "crossrec:" not in capsys.readouterr().err
    (path,) = on_disk.offline_runs(tmp_path / "out")
    record = on_disk.one(path, "run")
    assert (record.display_name, record.run_group, record.job_type) == ("table 2/small", "table2", "table")
    assert on_disk.exit_code(path) == 0
    (row,) = on_disk.rows(path)
    (stored,) = (path.parent / "files").rglob("*.table.json")
    assert row["table/path"] == str(stored.relative_to(path.parent / "files"))
    content = json.loads(stored.read_text())
    assert content["columns"] == list(COLUMNS) and content["data"] == table_rows(TABLE)
    requests = [r.request.log_artifact.artifact for r in on_disk.records(path) if r.HasField("request")]
    artifacts = [r.artifact for r in on_disk.records(path) if r.HasField("artifact")] + requests
    (artifact,) = (a for a in artifacts if a.type == "table")
    assert artifact.name == "table-2-small-table"
    assert sorted(entry.path for entry in artifact.manifest.contents) == ["plot.png", "table.md"]
    for entry in artifact.manifest.contents:  # a copy, so that a later upload does not need the original
        assert Path(entry.local_path).read_text() == entry.path


def test_each_upload_is_a_run_of_its_own(tmp_path: Path, files: list[Path]) -> None:
    assert log(tmp_path, files) and log(tmp_path, files)
    assert len({on_disk.one(path, "run").run_id for path in on_disk.offline_runs(tmp_path)}) == 2


def test_a_missing_file_is_told_and_the_cells_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert not log(tmp_path / "out", [tmp_path / "none.csv"])
    (path,) = on_disk.offline_runs(tmp_path / "out")
    (line,) = (ln for ln in capsys.readouterr().err.splitlines() if ln.startswith("crossrec:"))
    assert "none.csv" in line and line.endswith(f"wandb sync {path.parent}")
    assert len(on_disk.rows(path)) == 1 and on_disk.exit_code(path) == 1


def test_a_broken_wandb_raises_nothing(
    tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def broken(**arguments: Any) -> None:
        raise RuntimeError("no service")

    monkeypatch.setattr(wandb, "init", broken)
    assert not log(tmp_path, files)
    assert capsys.readouterr().err.count("W&B did not start (RuntimeError: no service)") == 1


def test_without_wandb_installed(tmp_path: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(CrossrecError, match=r"crossrec\[wandb\]"):
        log(tmp_path, files)
