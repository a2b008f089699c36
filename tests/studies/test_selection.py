from pathlib import Path

import pytest
from study_files import write_study

from crossrec.errors import CrossrecError
from crossrec.studies.selection import select


def test_rows_are_named_whole_or_between_commas(small: list[str], tmp_path: Path) -> None:
    names = ("merged, plain", "merged", "popularity", "plain")
    rows: dict[str, object] = {
        name: [f"strategy={'popularity' if name == 'popularity' else 'merged'}"] for name in names
    }
    rows["dim, wide"] = {"overrides": ["strategy=merged"], "over": {"dim": [4, 16]}}
    study = write_study(tmp_path, small, rows=rows, seeds=[0], baseline="merged, plain")

    def kept(*texts: str) -> list[str]:
        return [row.name for row in select(study, [], rows=texts).study.rows]

    assert kept("merged, plain") == ["merged, plain"]
    assert kept("popularity", "merged, plain") == ["merged, plain", "popularity"]
    assert kept("merged,popularity") == ["merged", "popularity"]
    assert kept("dim, wide", "plain") == ["plain", "dim, wide dim=4", "dim, wide dim=16"]
    assert kept("dim, wide dim=4") == ["dim, wide dim=4"]
    assert select(study, [], rows=["merged, plain"]).study.baseline == "merged, plain"
    with pytest.raises(CrossrecError, match="no row 'plan'; did you mean plain"):
        kept("merged,plan")


def test_a_row_that_cannot_be_trained_is_refused_before_any_is(small: list[str], tmp_path: Path) -> None:
    rows = {"merged": ["strategy=merged"], "wrong": ["strategy=merged", "trainer.gradient_clip_val=-2"]}
    study = write_study(tmp_path, small, rows=rows)
    assert len(select(study, []).jobs) == 4  # a table of what there is needs no such check
    with pytest.raises(CrossrecError, match=r"row 'wrong': trainer\.gradient_clip_val=-2"):
        select(study, [], trains=True)
