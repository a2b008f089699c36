import shlex
from pathlib import Path

import pytest

from crossrec.errors import CrossrecError
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


def test_rows_of_a_list_of_values_are_traced_by_their_common_name_and_each_by_its_own() -> None:
    column, rows = Column("", "d", "auc"), ("mmd", "over weight=0", "over weight=[1, 2]")
    cells = {(row, column): Cell(row, column, (), 1) for row in rows}
    parameters = {row: ("adaptation.mmd.weight", row.partition("=")[2]) for row in rows[1:]}
    table = Table("t", "t", rows, (column,), cells, parameters=parameters)
    for asked, found in (("mmd", rows[:1]), ("over", rows[1:]), (rows[2], rows[2:])):
        assert trace(table, asked, "auc") == [f"{row}, d auc: not run" for row in found]
    with pytest.raises(CrossrecError, match=r"no row 'ovr'; did you mean over\?"):
        trace(table, "ovr", "auc")
