import shlex
from pathlib import Path

from crossrec.runs.store import RunFolder, write_json
from crossrec.studies.table import Cell, Column, Table, Value
from crossrec.studies.trace import trace


def test_the_command_of_a_run_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    words = ["adaptation=[mmd]", "data.name=it's a, b", "callbacks={a: 1}", "x=$HOME", "dim=8"]
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    write_json(run.path / "overrides.json", words)
    write_json(run.path / "versions.json", {})
    (run.path / "config.yaml").write_text("{}")
    column = Column("", "d", "auc")
    cell = Cell("a", column, (Value(0, 0.5, str(run.path)),), 1, 0.5, None, None, None, "run", None, None, None)
    lines = trace(Table("t", "t", ("a",), (column,), {("a", column): cell}), "a", "auc")
    (line,) = (line.strip() for line in lines if line.strip().startswith("command"))
    assert shlex.split(line) == ["command", "crossrec", "train", *words]
