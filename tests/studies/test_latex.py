import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from tables import TABLES, ablation, example, plain

from crossrec.studies.latex import latex
from crossrec.studies.latex_text import KNOWN, escape, unknown
from crossrec.studies.shown import DETAILS, headings, lines, number
from crossrec.studies.table import Column, Table


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
    (tabular,) = re.findall(r"\\begin\{tabular\}\{@\{\}(l(?:r@\{\}l|r)*)@\{\}\}(.*)\\end\{tabular\}", text, re.S)
    columns, body = tabular
    count = len(columns.replace("@{}", ""))
    body = re.sub(r"\\(toprule|midrule|bottomrule|addlinespace)\n|\\cmidrule\(lr\)\{\d+-\d+\}", "", body)
    rows = []
    for row in body.strip().split(" \\\\\n"):
        row = row.removesuffix(" \\\\")
        assert not row.lstrip().startswith(("[", "*")), "would be read as an argument of the line before"
        cells = re.split(r"(?<!\\)&", row)
        spans = [int(n) for c in cells for n in re.findall(r"\\multicolumn\{(\d+)\}", c) or ["1"]]
        assert sum(spans) <= count, row
        rows.append([c.strip() for c in cells])
    for first, last in re.findall(r"\\cmidrule\(lr\)\{(\d+)-(\d+)\}", text):
        assert 2 <= int(first) <= int(last) <= count
    return rows


@pytest.mark.parametrize("make", TABLES)
def test_latex_is_well_formed(make):
    table = make()
    rows = check_latex(latex(table))
    panels = 2 if len(table.columns) > 4 else 1
    intervals = sum(any("[" in DETAILS[x.kind](c) for c in x.cells) for x in lines(table) if x.kind == "gain")
    assert len(rows) == panels * (len(headings(table)) + len(lines(table)) + intervals)


def test_latex_of_the_example():
    text = latex(example())
    rows = check_latex(text)
    assert rows[0] == ["", r"\multicolumn{8}{c}{movielens}"]
    assert rows[1] == ["", r"\multicolumn{4}{c}{ml-1m}", r"\multicolumn{4}{c}{ml\_100k}"]
    assert rows[2][1:3] == [r"\multicolumn{2}{c}{recall@10}", r"\multicolumn{2}{c}{ndcg@10}"]
    assert r"\cmidrule(lr){2-5}\cmidrule(lr){6-9}" in text
    second = rows.index(["", r"\multicolumn{8}{c}{food \& kitchen}"])
    shown = {row[0]: row[1:] for row in rows[:second]}
    below = {row[0]: row[1:] for row in rows[second:]}
    name = r"a\_b \& c\textbar{}d \textless{}e\textgreater{} 50\%"
    assert shown[name][:2] == [r"\textbf{0.2312}", r"{\tiny\,$\pm$\,0.0010}$^{***}$"]
    assert shown[name][6:] == [r"\textbf{0.3212}", r"{\tiny\,$\pm$\,0.0010}"]
    assert below[name][:2] == [r"\textbf{0.3512}", r"{\tiny\,$\pm$\,0.0010}$^{***}$"]
    assert shown["merged"][:2] == [r"\underline{0.2100}", ""]
    assert [row[1:3] for row in rows if row[0] == r"\quad gain"][:2] == [
        [r"\llap{+}15.6", r"\%"],
        [r"\llap{+}5.0", r"\%"],
    ]
    after = rows[[row[0] for row in rows].index(r"\quad gain") + 1]
    assert after[:2] == ["", r"\multicolumn{2}{r}{{\scriptsize {[}+10.6, +20.6{]}}}"]
    assert shown["never run"] == ["--", ""] * 4
    assert r"\caption{Cross-domain gain of 50\% on a\_b}" in text and r"\label{tab:table-2-more}" in text
    assert r"\begin{table*}" in text and r"\begin{table*}" in latex(ablation())
    assert r"\begin{table}" in latex(plain({"a": [[0.1]]}))


def columns(sizes: dict[str, dict[str, int]]) -> list[Column]:
    """Data set -> domain -> number of metrics."""
    return [Column(d, e, f"m{i}") for d, domains in sizes.items() for e, n in domains.items() for i in range(n)]


@pytest.mark.parametrize(
    ("sizes", "seeds", "panels"),
    [
        ({"a": {"x": 2, "y": 2}, "b": {"x": 2, "y": 2}}, 2, [4, 4]),  # a data set each
        ({"a": {"x": 1, "y": 1}, "b": {"x": 2}, "c": {"x": 2}}, 2, [4, 2]),  # two, and the third
        ({"a": {"x": 2, "y": 2, "z": 2}}, 2, [4, 2]),  # two domains, and the third
        ({"a": {"x": 5}}, 2, [3, 2]),
        ({"a": {"x": 6}}, 1, [6]),  # without deviations
        ({"a": {"x": 4}, "b": {"x": 4}}, 1, [4, 4]),
    ],
)
def test_columns_too_many_for_the_page_go_below(sizes, seeds, panels):
    made = columns(sizes)
    table = plain({"row": [[0.01 * (i + 1) + 0.001 * s for s in range(seeds)] for i in range(len(made))]}, made)
    rows = check_latex(latex(table))
    shown = [row[1 :: min(seeds, 2)] for row in rows if row[0] == "row"]
    assert [len(row) for row in shown] == panels
    assert [cell for row in shown for cell in row] == [number(table.cells["row", column])[0] for column in made]
    metrics = [row for row in rows if row[1].endswith("{m0}") or row[1].endswith("{m3}")]
    assert [len(row) - 1 for row in metrics] == panels
    text = "".join(cell for row in rows for cell in row)
    assert all((f"{{{data}}}" in text) == (len(sizes) > 1) for data in sizes)


def test_latex_escapes_every_special():
    assert escape("\\ {x} ~^ # $5 [a] *") == (
        r"\textbackslash{} \{x\} \textasciitilde{}\textasciicircum{} \# \$5 {[}a{]} {*}"
    )


def test_latex_writes_greek_and_signs_as_commands_and_names_what_it_cannot():
    assert escape("λ=½, Σ₂ ≠ α², −1 – 2 --x") == r"$\lambda$=½, $\Sigma$$_{2}$ $\neq$ $\alpha$$^{2}$, $-$1 -- 2 -{}-x"
    assert unknown("Järvelin, Łódź, λ → ∞, “50 %”") == []
    text = latex(plain({"中文 ęa 中": [[0.1]]}))
    assert "中文 ęa 中 &" in text and text.splitlines()[1].startswith("% needs, for 中 文 ę: ")
    assert "needs, for" not in latex(odd())


def odd() -> Table:
    """Names of every kind that pdfLaTeX has a way to typeset."""
    letters = "".join(sorted(letter for letter in KNOWN if letter not in " \N{NO-BREAK SPACE}"))
    words = [letters[i : i + 20] for i in range(0, len(letters), 20)]
    rows = {"λ=0.1, μ ± σ": [[0.1, 0.2]], "[−1 – 2] *--x* 50% & “a_b”": [[0.3, 0.1]], **{w: [[]] for w in words}}
    return replace(plain(rows, [Column("Ω_%", "α→β", "ndcg@10")]), name="odd", title="Größe, λ ≤ 1 [#2]")


ENGINES = [name for name in ("tectonic", "pdflatex") if shutil.which(name)]


@pytest.mark.skipif(not ENGINES, reason="neither tectonic nor pdflatex is installed")
def test_latex_compiles(tmp_path: Path):
    tables = "\\clearpage\n".join(latex(make()) for make in [*TABLES, odd])
    source = tmp_path / "paper.tex"
    source.write_text(
        f"\\documentclass{{article}}\n\\usepackage{{booktabs}}\n\\begin{{document}}\n{tables}\\end{{document}}\n"
    )
    options = ["-interaction=nonstopmode", "-halt-on-error"] if ENGINES[0] == "pdflatex" else []
    done = subprocess.run([ENGINES[0], *options, source.name], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
    assert (tmp_path / "paper.pdf").is_file()
    assert "Overfull" not in done.stdout + done.stderr
