import re
from pathlib import Path

import polars as pl
import pytest
from running import crossrec, here

from crossrec.cli import main
from crossrec.commands.train import composed
from crossrec.runs.corpus import prepare_corpus


def test_the_table_says_what_is_in_the_corpus(small: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(["prepare", *small])
    printed = capsys.readouterr().out
    corpus = prepare_corpus(composed(small))
    rows = corpus.interactions.with_columns(domain=pl.Series(corpus.item_domain[corpus.interactions["item"]]))
    for d in corpus.domains:
        here = rows.filter(pl.col("domain") == d.index)
        (line,) = [re.findall(r"[\w.%,]+", text) for text in printed.splitlines() if text.startswith(f"│ {d.name} ")]
        density = f"{here.height / (here['user'].n_unique() * d.n_items):.3%}"
        numbers = [f"{n:,}" for n in (here["user"].n_unique(), d.n_items, here.height)]
        assert line == [d.name, *numbers, density, *["100%"] * len(corpus.modalities)]
    assert f"users in both a and b: {len(corpus.overlap('a', 'b'))}" in printed
    assert "licence: generated, no restriction" in printed
    assert corpus.fingerprint[:12] in printed


def test_a_corpus_is_prepared_once(small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*small, f"paths.prepared={tmp_path / 'prepared'}"]
    main(["prepare", *words])
    (folder,) = (tmp_path / "prepared").iterdir()
    stamps = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    main(["prepare", *words])
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == stamps


@pytest.mark.parametrize("command", ["prepare", "encode"])
def test_a_folder_that_cannot_be_written_is_told(
    command: str, small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    words = ["item_encoder=text"] if command == "encode" else []
    with pytest.raises(SystemExit) as end:
        main([command, *small, *words, f"paths.prepared={tmp_path / 'file' / 'folder'}"])
    assert end.value.code == 1
    said = capsys.readouterr().err
    assert f"crossrec {command}: error: {tmp_path / 'file' / 'folder'}" in said
    assert "cannot be used (Not a directory): choose another folder" in said


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "books.csv").write_text("user,item,time\nu1,i1,1\nu2,,2\n")
    domains = "data.source.domains={books: {interactions: books.csv}}"
    where = f"paths.prepared={tmp_path / 'prepared'}"
    done = crossrec("prepare", "data=tabular", domains, where, cwd=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(r"crossrec prepare: error: .*books\.csv.*3.*\n", done.stderr)
    done = here("prepare", "data=tabular", domains, where, "data.source.bad_row=drop", cwd=tmp_path)
    assert done.returncode == 1
    assert "no config key 'data.source.bad_row'; did you mean data.source.bad_rows" in done.stderr
    done = here("prepare", "data=tabular", domains, where, "data.source.bad_rows=drop", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "dropped: " in done.stdout
