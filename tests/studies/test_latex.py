import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tables import TABLES, ablation, example

from crossrec.studies.latex import escape, latex
from crossrec.studies.shown import headings, lines


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
