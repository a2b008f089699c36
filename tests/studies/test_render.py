import io
import re
from dataclasses import replace
from itertools import pairwise

import polars as pl
import pytest
from markdown_it import MarkdownIt
from rich.console import Console
from tables import BASELINE, COLUMNS, SPECIAL, TABLES, ablation, cell, example, plain

from crossrec.studies.html import html
from crossrec.studies.latex import latex
from crossrec.studies.render import FIELDS, csv, markdown, print_table
from crossrec.studies.shown import Span, heading, headings, legend, lines, number
from crossrec.studies.table import Column, Table

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def printed(table: Table, width: int = 80, terminal: bool = False) -> str:
    """What the terminal shows; without ``terminal``, what goes down a pipe."""
    file = io.StringIO()
    color = "truecolor" if terminal else None
    print_table(table, Console(file=file, width=width, force_terminal=terminal, color_system=color, no_color=False))
    return file.getvalue()


# What every format shows


def test_headings_are_grouped():
    assert headings(example()) == [
        [Span("movielens", 4), Span("food & kitchen", 4)],
        [Span("ml-1m", 2), Span("ml_100k", 2)] * 2,
        [Span("recall@10", 1), Span("ndcg@10", 1)] * 4,
    ]
    assert heading(example()) == "Cross-domain gain of 50% on a_b"


def test_what_all_columns_share_moves_to_the_title():
    assert headings(ablation())[0] == [Span("books", 2), Span("films", 2)]
    assert heading(ablation()) == "Weight of the term (data)"
    one = plain({"a": [[0.1]]}, [Column("movielens", "ml-1m", "ndcg@10")])
    assert headings(one) == [[Span("ndcg@10", 1)]]
    assert heading(one) == "Plain (movielens, ml-1m)"
    assert heading(plain({"a": [[0.1]]})) == "Plain (macro)"


def test_a_domain_of_two_data_sets_is_not_one_group():
    columns = [Column("one", "macro", "a"), Column("one", "x", "a"), Column("two", "x", "a"), Column("two", "y", "a")]
    spans = headings(plain({"r": [[0.1]] * 4}, columns))
    assert spans[1] == [Span("macro", 1), Span("x", 1), Span("x", 1), Span("y", 1)]


def test_a_number_needs_a_run_and_a_deviation_two():
    column = Column("", "macro", "m")
    assert number(cell("a", column, [0.1, 0.2, 0.3])) == ("0.2000", "0.1000")
    assert number(cell("a", column, [0.1])) == ("0.1000", "")
    assert number(cell("a", column, [])) == ("–", "")
    ghost = replace(cell("a", column, [0.1, 0.2]), values=(), gain=0.5, place=1, published=0.4)
    table = replace(plain({"a": [[0.1, 0.2]]}, [column]), cells={("a", column): ghost})
    for text in (printed(table), markdown(table), latex(table), html(table)):
        assert "0.15" not in text and "0.0707" not in text and "gain" not in text and "best" not in text
        assert "0.4000" in text and ("–" in text or "--" in text)
    row = pl.read_csv(io.StringIO(csv(table))).row(0, named=True)
    assert [row[k] for k in ("mean", "std", "difference", "gain", "place", "runs")] == [None] * 6


def test_details_that_say_nothing_have_no_line():
    kinds = {row: [x.kind for x in lines(example()) if x.row == row] for row in example().rows}
    assert kinds == {
        BASELINE: ["value", "published", "difference", "status"],
        SPECIAL: ["value", "gain"],
        "merged": ["value", "gain", "status"],
        "never run": ["value", "published", "status"],
    }


def test_legend_says_what_is_needed_and_no_more():
    said = legend(example(), "bold", "underlined")
    assert [s.split(":")[0] for s in said] == [
        "±", "bold", "*, **, ***", "gain", "difference", "reproduced, differs", "partial", "Published values",
        "Published protocol", "Users of both domains only [see #1].",
    ]  # fmt: skip
    assert "Holm-adjusted" in said[2] and BASELINE in said[2]
    assert said[3].endswith("; [ ]: 95% bootstrap interval over users.")
    assert "(0.005)" in said[5]
    assert said[7] == "Published values: Doe & Roe 2020, table 2."
    assert legend(plain({"a": [[0.1]]}), "bold", "underlined") == ["One seed a value."]
    assert legend(plain({"a": [[0.1, 0.2]]}), "b", "u") == ["±: sample standard deviation over 2 seeds."]
    assert legend(plain({"a": [[], []]}), "b", "u") == []


def test_comparisons_without_a_star_are_said():
    table = example()
    column = table.columns[3]
    cells = {(row, column): table.cells[row, column] for row in table.rows}
    said = legend(replace(table, columns=(column,), cells=cells), "bold", "underlined")
    assert any(s.startswith(f"No difference from {BASELINE}") for s in said)
    assert not any(s.startswith("*") for s in said)


# Terminal


def test_pipe_has_whole_lines_and_no_escapes():
    out = printed(example(), width=40)
    assert "\x1b" not in out
    rows = [line for line in out.splitlines() if line.startswith(SPECIAL)]
    assert len(rows) == 1
    assert rows[0].split()[5:9] == ["0.2312", "±", "0.0010***", "[1]"]
    assert "[1]: best of the column; [2]: second." in out
    (line,) = [line for line in out.splitlines() if line.startswith("never run")]
    assert line.split() == ["never", "run", *["–"] * 8]
    assert out.count("partial 1/3") == 8
    assert "−0.0200" in out and "+15.6% [+10.6, +20.6]" in out and "+5.0%  " in out and "0.2200 ± 0.0010" in out


def test_terminal_marks_by_style():
    out = printed(example(), width=250, terminal=True)
    assert "\x1b[1m0.2312\x1b[0m ± 0.0010***" in out
    assert "\x1b[4m0.2100\x1b[0m" in out
    assert "[1]" not in ANSI.sub("", out)
    assert "bold: best of the column; underlined: second." in ANSI.sub("", out)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_narrow_terminal_shows_every_number_on_lines_that_fit(width):
    out = ANSI.sub("", printed(example(), width=width, terminal=True))
    assert max(len(line) for line in out.splitlines()) <= width
    table = example()
    for (row, _), c in table.cells.items():
        mean, std = number(c)
        assert (f"{mean} ± {std}" if std else mean) in out, row
    assert "…" not in out
    for column in COLUMNS:
        assert all(level in out for level in column)
    assert len(re.findall(r"^target_only ", out, re.M)) == out.count("──\n")


def test_terminal_narrower_than_a_column_cuts_nothing():
    out = ANSI.sub("", printed(example(), width=20, terminal=True))
    assert out.count("0.2312 ± 0.0010***") == 1 and "…" not in out


def test_means_stand_below_each_other():
    out = printed(plain({"a": [[0.1, 0.2], [3.5, 3.5]], "bb": [[0.3], [12.25, 12.25]]}))
    body = [line for line in out.splitlines() if line.startswith(("a ", "bb"))]
    assert [line.index(".", 4) for line in body] == [body[0].index(".", 4)] * 2
    assert body[0].index(".5000") == body[1].index(".2500")


def test_ascii_terminal():
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    print_table(example(), Console(file=file, width=80))
    file.flush()
    assert b"0.2312 +- 0.0010*** [1]" in raw.getvalue()


def test_names_are_not_rich_markup():
    assert "[red]x[/]" in printed(plain({"[red]x[/]": [[0.1]]}))


# Markdown


def test_markdown_is_one_table_with_the_names_intact():
    text = markdown(example())
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    assert sum(t.type == "table_open" for t in tokens) == 1
    rows, row = [], []
    for before, token in pairwise(tokens):
        if token.type == "inline" and before.type in ("th_open", "td_open"):
            row.append("".join(c.content for c in token.children if c.type == "text"))
        elif token.type == "tr_close":
            rows.append(row)
            row = []
    assert {len(r) for r in rows} == {9}
    assert rows[0][1] == "movielensml-1mrecall@10" and rows[0][8] == "food & kitchenml_100kndcg@10"
    shown = {r[0]: r[1:] for r in rows[1:]}
    assert shown[SPECIAL][:2] == ["0.2312 ± 0.0010 ***", "0.2612 ± 0.0010 **"]
    assert shown["never run"] == ["–"] * 8
    assert "| **0.2312** ± 0.0010 \\*\\*\\* |" in text and "<ins>0.2100</ins>" in text
    items = [t.content for t in tokens if t.type == "inline"][-10:]
    assert items[0].startswith("±") and "#1" in items[-1]


@pytest.mark.parametrize("make", TABLES)
def test_markdown_rows_have_as_many_cells(make):
    table = make()
    body = [line for line in markdown(table).splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in body} == {len(table.columns) + 2}


# CSV


def test_csv_keeps_every_digit():
    table = example()
    frame = pl.read_csv(io.StringIO(csv(table)), infer_schema_length=None)
    assert tuple(frame.columns) == FIELDS
    assert frame.height == len(table.rows) * len(table.columns)
    for entry in frame.iter_rows(named=True):
        c = table.cells[entry["row"], Column(entry["data"], entry["domain"], entry["metric"])]
        assert [entry[k] for k in ("mean", "std", "status", "published", "published_std", "gain", "place")] == [
            c.mean, c.std, c.status, c.published, c.published_std, c.gain, c.place,
        ]  # fmt: skip
        assert entry["difference"] == c.difference
        ends = None if c.comparison is None else c.comparison.relative
        assert (entry["gain_low"], entry["gain_high"]) == (ends or (None, None))
        assert (entry["n"], entry["expected"]) == (len(c.values), 3)
        assert (entry["runs"] or "") == ";".join(v.run for v in c.values)
        told = [entry[k] for k in ("baseline", "delta", "low", "high", "p_users", "p_adjusted", "p_seeds")]
        k = c.comparison
        assert told == (
            [None] * 7 if k is None else [k.baseline, k.difference, k.low, k.high, k.p_users, k.p_adjusted, k.p_seeds]
        )
    assert "0.23123456789012342" in csv(table)
