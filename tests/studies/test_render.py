import io
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from markdown_it import MarkdownIt
from rich.console import Console
from tables import BASELINE, COLUMNS, SPECIAL, ablation, cell, example, plain

from crossrec.studies.html import html
from crossrec.studies.latex import escape, latex
from crossrec.studies.render import FIELDS, csv, markdown, print_table
from crossrec.studies.shown import Span, heading, headings, legend, lines, number
from crossrec.studies.table import Column, Table

ANSI = re.compile(r"\x1b\[[0-9;]*m")
TABLES = [example, ablation, lambda: plain({"a": [[0.1]], "b": [[]]}), lambda: plain({"[1] *x*": [[], []]})]


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
    assert "−0.0200" in out and "+15.6%" in out and "0.2200 ± 0.0010" in out


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
        assert (entry["n"], entry["expected"]) == (len(c.values), 3)
        assert (entry["runs"] or "") == ";".join(v.run for v in c.values)
        told = [entry[k] for k in ("baseline", "delta", "low", "high", "p_users", "p_adjusted", "p_seeds")]
        k = c.comparison
        assert told == (
            [None] * 7 if k is None else [k.baseline, k.difference, k.low, k.high, k.p_users, k.p_adjusted, k.p_seeds]
        )
    assert "0.23123456789012342" in csv(table)


# LaTeX


def check_latex(text: str) -> list[list[str]]:
    """Parse what ``latex`` writes, strictly: braces, environments, specials, columns; the cells of each row."""
    text = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    bare = re.sub(r"\\[\\&%$#_{}]", "", text)
    depth = 0
    for letter in bare:
        depth += {"{": 1, "}": -1}.get(letter, 0)
        assert depth >= 0
    assert depth == 0
    stack: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{([^}]*)\}", text):
        if kind == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert stack == []
    assert bare.count("$") % 2 == 0
    outside = re.sub(r"\$[^$]*\$", "", bare)
    assert not re.search(r"[%#_^~<>|\"]", re.sub(r"\\label\{[^}]*\}", "", outside))
    assert bare.isascii()
    (tabular,) = re.findall(r"\\begin\{tabular\}\{@\{\}(l?r*)@\{\}\}(.*)\\end\{tabular\}", text, re.S)
    columns, body = tabular
    body = re.sub(r"\\(toprule|midrule|bottomrule|addlinespace)\n|\\cmidrule\(lr\)\{\d+-\d+\}", "", body)
    rows = []
    for row in body.strip().split(" \\\\\n"):
        row = row.removesuffix(" \\\\")
        assert not row.lstrip().startswith(("[", "*")), "would be read as an argument of the line before"
        cells = re.split(r"(?<!\\)&", row)
        spans = [int(n) for c in cells for n in re.findall(r"\\multicolumn\{(\d+)\}", c) or ["1"]]
        assert sum(spans) == len(columns), row
        rows.append([c.strip() for c in cells])
    for first, last in re.findall(r"\\cmidrule\(lr\)\{(\d+)-(\d+)\}", text):
        assert 2 <= int(first) <= int(last) <= len(columns)
    return rows


@pytest.mark.parametrize("make", TABLES)
def test_latex_is_well_formed(make):
    rows = check_latex(latex(make()))
    assert len(rows) == len(headings(make())) + len(lines(make()))


def test_latex_of_the_example():
    text = latex(example())
    rows = check_latex(text)
    assert rows[0] == ["", r"\multicolumn{4}{c}{movielens}", r"\multicolumn{4}{c}{food \& kitchen}"]
    assert r"\cmidrule(lr){2-3}\cmidrule(lr){4-5}\cmidrule(lr){6-7}\cmidrule(lr){8-9}" in text
    shown = {row[0]: row[1:] for row in rows}
    name = r"a\_b \& c\textbar{}d \textless{}e\textgreater{} 50\%"
    assert shown[name][0] == r"\textbf{0.2312}{\tiny $\pm$ 0.0010}$^{***}$"
    assert shown[name][3] == r"\textbf{0.3212}{\tiny $\pm$ 0.0010}"
    assert shown["merged"][0] == r"\underline{0.2100}"
    assert shown["never run"] == ["--"] * 8
    assert r"\caption{Cross-domain gain of 50\% on a\_b}" in text and r"\label{tab:table-2-more}" in text
    assert r"\begin{table*}" in text and r"\begin{table}" in latex(ablation())


def test_latex_escapes_every_special():
    assert escape("\\ {x} ~^ # $5 [a] *") == (
        r"\textbackslash{} \{x\} \textasciitilde{}\textasciicircum{} \# \$5 {[}a{]} {*}"
    )


ENGINES = [name for name in ("tectonic", "pdflatex") if shutil.which(name)]


@pytest.mark.skipif(not ENGINES, reason="neither tectonic nor pdflatex is installed")
def test_latex_compiles(tmp_path: Path):
    tables = "\n".join(latex(make()) for make in TABLES)
    source = tmp_path / "paper.tex"
    source.write_text(
        f"\\documentclass{{article}}\n\\usepackage{{booktabs}}\n\\begin{{document}}\n{tables}\\end{{document}}\n"
    )
    options = ["-interaction=nonstopmode", "-halt-on-error"] if ENGINES[0] == "pdflatex" else []
    done = subprocess.run([ENGINES[0], *options, source.name], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "paper.pdf").is_file()


# HTML

VOID = {"meta", "br", "link", "img"}


class Page(HTMLParser):
    """A strict reader of a page: every element closed in order; cells, titles and attributes of the table."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.rows: list[list[tuple[str, dict[str, str | None], str]]] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append((tag, dict(attrs), ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        for tag in set(self.open):
            self.text[tag] = self.text.get(tag, "") + data
        if {"td", "th"} & set(self.open):
            tag, attrs, text = self.rows[-1][-1]
            self.rows[-1][-1] = (tag, attrs, text + data)


@pytest.mark.parametrize("make", TABLES)
def test_html_is_closed_self_contained_and_square(make):
    text = html(make())
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    assert "://" not in text and "url(" not in text and "@import" not in text
    assert {tag for tag, _ in page.seen}.isdisjoint({"script", "link", "img", "iframe"})
    table = make()
    body = [row for row in page.rows if row[0][0] == "th" and row[0][1].get("scope") == "row"]
    assert [row[0][2] for row in body] == list(table.rows)
    assert {len(row) for row in body} == {len(table.columns) + 1}
    heads = page.rows[: len(page.rows) - len(body)]
    for i, row in enumerate(heads):
        assert sum(int(a.get("colspan") or 1) for _, a, _ in row) == len(table.columns) + (i == 0)
        assert {a["scope"] for _, a, _ in row} <= {"col", "colgroup"}


def test_html_of_the_example():
    page = Page()
    page.feed(html(example()))
    assert page.text["caption"] == page.text["title"] == "Cross-domain gain of 50% on a_b"
    assert ("html", {"lang": "en"}) in page.seen
    (row,) = [row for row in page.rows if row[0][2] == SPECIAL]
    assert row[1][2] == "0.2312 ± 0.0010***gain +15.6%"
    assert row[1][1]["title"] == ", ".join(f"a_b-recall@10-{i} (seed {i})" for i in range(3))
    assert "0.2312" in page.text["strong"] and "0.2100" in page.text["u"] and "***" in page.text["sup"]
    (row,) = [row for row in page.rows if row[0][2] == "never run"]
    assert row[1][2] == "–published 0.5000not run" and row[1][1]["title"] == "no run"
    assert "Doe & Roe 2020" in page.text["li"]


def test_html_escapes_attributes():
    table = plain({'"><script>': [[0.1]]})
    assert "<script>" not in html(table)
