import builtins
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tables import BASELINE, COLUMNS, ablation, example, plain

from crossrec.errors import CrossrecError
from crossrec.studies.canvas import interval, save
from crossrec.studies.curve import curve_figure
from crossrec.studies.plots import bars_figure, critical_difference_figure, draw
from crossrec.studies.ranks import critical_difference as nemenyi
from crossrec.studies.ranks import mean_ranks
from crossrec.studies.table import Column, Table

pytest.importorskip("matplotlib")

# Ranks of four classifiers on 14 data sets: Demsar, JMLR 2006, table 6.
DEMSAR = {
    "C4.5": [4, 1, 4, 4, 4, 1, 3, 2.5, 4, 2.5, 4, 3, 4, 3],
    "C4.5+m": [3, 2, 1, 1, 2, 2.5, 2, 2.5, 3, 2.5, 2.5, 2, 1, 1],
    "C4.5+cf": [2, 3, 2, 3, 3, 4, 4, 4, 2, 2.5, 1, 4, 2, 4],
    "C4.5+m+cf": [1, 4, 3, 2, 1, 2.5, 1, 1, 1, 2.5, 2.5, 1, 3, 2],
}


def demsar() -> Table:
    return plain({row: [[1 - rank / 10] for rank in ranks] for row, ranks in DEMSAR.items()})


def many(rows: int, columns: int, name: str = "method {} with quite a long name & text encoder") -> Table:
    rng = np.random.default_rng(0)
    values = rng.uniform(0.1, 0.5, (rows, columns, 3))
    return plain({name.format(i): v.tolist() for i, v in enumerate(values)}, COLUMNS[:columns])


def texts(figure):
    """The texts that a reader sees, with their boxes in pixels, after drawing."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    FigureCanvasAgg(figure).draw()
    hidden = set()
    for ax in figure.axes:
        if not ax.axison:
            hidden |= {id(t) for axis in (ax.xaxis, ax.yaxis) for t in axis.findobj(Text)}
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not low <= tick.get_loc() <= high:
                    hidden |= {id(tick.label1), id(tick.label2)}
    found = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip() and id(t) not in hidden]
    return {id(t): (t.get_text(), t.get_window_extent(), t.get_rotation()) for t in found}.values()


def check_layout(figure) -> int:
    """No text is cut by the edge of the picture and no two overlap; their number."""
    seen = list(texts(figure))
    for text, box, _ in seen:
        assert box.x0 > -1 and box.y0 > -1, text
        assert box.x1 < figure.bbox.x1 + 1 and box.y1 < figure.bbox.y1 + 1, text
    for i, (text, a, turned) in enumerate(seen):
        for other, b, _ in seen[:i]:
            apart = a.x1 <= b.x0 + 0.5 or b.x1 <= a.x0 + 0.5 or a.y1 <= b.y0 + 0.5 or b.y1 <= a.y0 + 0.5
            assert apart or turned == 35, (text, other)
    return len(seen)


def test_interval_of_three_seeds():
    cell = plain({"a": [[1.0, 2.0, 3.0]]}).cells["a", Column("", "macro", "metric@0")]
    assert interval(cell) == pytest.approx(4.302653 / math.sqrt(3))
    assert interval(plain({"a": [[1.0]]}).cells["a", Column("", "macro", "metric@0")]) is None


def test_bars_are_the_means_of_the_table():
    table = example()
    figure = bars_figure(table)
    assert len(figure.axes) == len(table.columns)
    for ax, column in zip(figure.axes, table.columns):
        cells = [table.cells[row, column] for row in table.rows]
        assert [bar.get_width() for bar in ax.patches] == [c.mean for c in cells if c.values]
        diamonds = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "D"]
        assert diamonds == [c.published for c in cells if c.published is not None]
        spans = [c.get_segments()[0][:, 0] for c in ax.collections]
        wanted = [(c.mean - interval(c), c.mean + interval(c)) for c in cells if interval(c) is not None]
        assert np.allclose(spans, wanted)
        assert [t.get_text() for t in ax.texts] == ["not run"]
    assert "95% t-interval over seeds" in figure.get_supxlabel() and "published" in figure.get_supxlabel()


def test_single_seeds_have_no_interval_and_none_is_claimed():
    figure = bars_figure(plain({"a": [[0.1]], "b": [[0.2]]}))
    assert not figure.axes[0].collections
    assert figure.get_supxlabel() == ""


def test_curve_is_the_table():
    table = ablation()
    figure = curve_figure(table)
    assert [ax.get_ylabel() for ax in figure.axes] == ["hit@5", "ndcg@5"]
    for ax in figure.axes:
        assert ax.get_xscale() == "symlog"
        drawn = {c.get_label(): c.lines[0] for c in ax.containers}
        assert list(drawn) == ["books", "films"]
        for domain, line in drawn.items():
            column = Column("data", domain, ax.get_ylabel())
            assert line.get_xdata().tolist() == [0, 0.001, 0.01, 0.1]
            assert line.get_ydata().tolist() == [table.cells[r, column].mean for r in table.rows[1:-1]]
        levels = [line.get_ydata()[0] for line in ax.lines if line.get_markerfacecolor() == "white"]
        columns = [Column("data", domain, ax.get_ylabel()) for domain in drawn]
        assert levels == [table.cells[BASELINE, column].mean for column in columns]
        bands = [patch.get_bbox() for patch in ax.patches]
        half = [interval(table.cells[BASELINE, column]) for column in columns]
        assert np.allclose([(b.y0, b.y1) for b in bands], [(m - h, m + h) for m, h in zip(levels, half)])
        styles = {(line.get_linestyle(), line.get_marker(), line.get_color()) for line in drawn.values()}
        assert len(styles) == 2


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ((0.01, 0.1, 1), "log"),
        ((0.1, 0.5, 1), "linear"),
        ((0, 0.01, 1), "symlog"),
        ((0, 0.1, 0.3), "linear"),
        ((-1, 0, 1), "linear"),
        (("mean", "max", "cls"), "linear"),
    ],
)
def test_scale_of_the_parameter(values, scale):
    figure = curve_figure(ablation(values))
    for ax in figure.axes:
        assert ax.get_xscale() == scale
        assert [t.get_text() for t in ax.get_xticklabels()] == [v if isinstance(v, str) else f"{v:g}" for v in values]
        low, high = ax.get_xlim()
        assert low < min(ax.get_xticks()) and max(ax.get_xticks()) < high


def test_mean_ranks_and_critical_difference_of_demsar():
    ranks = mean_ranks(demsar())
    assert ranks.rows == ("C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5")
    assert np.round(ranks.means, 3).tolist() == [1.964, 2.0, 2.893, 3.143]
    assert (ranks.blocks, ranks.columns) == (14, 14)
    # 12 N / (k (k + 1)) (sum of squares - k (k + 1)^2 / 4) = 9.28 in the paper, over 1 - 78 / (N k (k^2 - 1)) for ties
    assert ranks.statistic == pytest.approx(9.28 / (1 - 78 / 840), abs=0.01)
    assert ranks.difference == pytest.approx(2.569 * math.sqrt(4 * 5 / (6 * 14)), abs=1e-3)
    assert round(ranks.difference, 2) == 1.25
    assert ranks.cliques() == [(0, 3)]


@pytest.mark.parametrize(("rows", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_nemenyi_against_the_table_of_demsar(rows, q):
    assert nemenyi(rows, 6) == pytest.approx(q * math.sqrt(rows * (rows + 1) / 36), abs=1e-3)


def test_seeds_are_paired_and_rows_without_runs_left_out():
    table = plain({"a": [[0.1, 0.2], [0.3]], "b": [[0.2, 0.1], [0.2]], "c": [[0.3, 0.3], []], "none": [[], []]})
    ranks = mean_ranks(table)
    assert ranks.left_out == ("none",)
    assert ranks.blocks == 2 and ranks.columns == 1
    assert dict(zip(ranks.rows, ranks.means)) == {"c": 1.0, "a": 2.5, "b": 2.5}


def test_small_is_best_where_the_table_says_so():
    from dataclasses import replace

    table = plain({"a": [[0.1, 0.1]], "b": [[0.2, 0.2]], "c": [[0.3, 0.3]]})
    placed = {key: replace(cell, place={"a": 1, "b": 2}.get(key[0])) for key, cell in table.cells.items()}
    assert mean_ranks(table).rows == ("c", "b", "a")
    assert mean_ranks(replace(table, cells=placed)).rows == ("a", "b", "c")


def test_cliques_are_the_largest_groups_within_the_critical_difference():
    ranks = mean_ranks(demsar())._replace(means=(1.0, 1.5, 2.4, 4.0), difference=1.0)
    assert ranks.cliques() == [(0, 1), (1, 2)]


def test_diagram_shows_the_ranks():
    ranks = mean_ranks(demsar())
    ax = critical_difference_figure(demsar()).axes[0]
    said = " ".join(t.get_text().replace("\n", " ") for t in ax.texts)
    for row, mean in zip(ranks.rows, ranks.means):
        assert f"{row} ({mean:.2f})" in said or f"({mean:.2f}) {row}" in said
        assert any(line.get_xdata()[0] == mean for line in ax.lines)
    (bar,) = [line for line in ax.lines if line.get_marker() == "|"]
    assert np.ptp(bar.get_xdata()) == pytest.approx(ranks.difference)
    assert "critical difference 1.25" in said


def test_ranks_are_refused_without_enough_rows_or_blocks():
    with pytest.raises(CrossrecError, match="2 of its rows have runs, three are needed"):
        mean_ranks(plain({"a": [[0.1, 0.2]], "b": [[0.2, 0.1]]}))
    with pytest.raises(CrossrecError, match=r"1 pairs .* \(a, b, c\), two are needed"):
        mean_ranks(plain({"a": [[0.1]], "b": [[0.2]], "c": [[0.3]]}))


@pytest.mark.parametrize(
    "make",
    [
        lambda: bars_figure(example()),
        lambda: bars_figure(many(9, 8)),
        lambda: bars_figure(many(9, 2, "a_name_without_any_space_in_its_many_letters_{}")),
        lambda: bars_figure(many(3, 1)),
        lambda: critical_difference_figure(many(9, 8)),
        lambda: critical_difference_figure(many(20, 3, "a_name_without_any_space_in_its_many_letters_{}")),
        lambda: critical_difference_figure(many(3, 1)),
        lambda: curve_figure(ablation()),
        lambda: curve_figure(ablation((0.05, 0.1, 0.11, 0.12, 0.3, 0.5, 0.9, 0.95))),
        lambda: curve_figure(ablation(("mean", "a word of many letters", "attention", "cls"))),
        lambda: curve_figure(ablation(tuple(f"encoder_number_{i}" for i in range(6)))),
    ],
)
def test_no_text_is_cut_or_overlaps(make):
    assert check_layout(make()) >= 5


def test_dollars_are_not_mathematics():
    assert check_layout(bars_figure(plain({"$x^2$": [[0.1]], "a_$b": [[0.2]]})))
    labels = bars_figure(plain({"$x^{$": [[0.1]]})).axes[0].get_yticklabels()
    assert labels[0].get_text() == r"\$x^{\$"


def test_files_are_pictures(tmp_path: Path):
    from PIL import Image

    for name, figure in (
        ("b", bars_figure(example())),
        ("c", curve_figure(ablation())),
        ("d", critical_difference_figure(demsar())),
    ):
        save(figure, tmp_path / "new" / f"{name}.png")
        with Image.open(tmp_path / "new" / f"{name}.png") as image:
            assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)
            grey = np.asarray(image.convert("L"))
        assert grey.shape[1] >= 700
        assert 0.01 < (grey < 128).mean() < 0.6
        assert len(np.unique(grey)) > 20
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["b.png", "c.png", "d.png"]


def test_draw_writes_what_makes_sense_and_says_what_does_not(tmp_path: Path):
    said: list[str] = []
    written = draw(plain({"a": [[0.1]], "b": [[0.2]]}), tmp_path / "two", said.append)
    assert [p.name for p in written] == ["bars.png", "bars.pdf"]
    assert len(said) == 1 and "three are needed" in said[0]
    written = draw(ablation(), tmp_path / "all")
    names = {f"{n}.{s}" for n in ("bars", "curve", "critical_difference") for s in ("png", "pdf")}
    assert {p.name for p in written} == names == {p.name for p in (tmp_path / "all").iterdir()}
    assert (tmp_path / "all" / "curve.pdf").read_bytes().startswith(b"%PDF")


def test_nothing_is_drawn_of_a_table_without_runs(tmp_path: Path):
    said: list[str] = []
    assert draw(plain({"a": [[]], "b": [[]]}), tmp_path, said.append) == []
    assert "nothing has run" in said[0]
    with pytest.raises(CrossrecError, match="no row with a parameter"):
        curve_figure(example())


def test_without_matplotlib_the_mend_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(CrossrecError, match=r"pip install 'crossrec\[plots\]'"):
        draw(example(), tmp_path)


def test_diagram_says_where_friedman_finds_nothing():
    rows = {"a": [[0.1], [0.2]], "b": [[0.2], [0.1]], "c": [[0.3], [0.0]]}
    assert "so that no difference is shown" in critical_difference_figure(plain(rows)).get_supxlabel()
    assert "so that no difference" not in critical_difference_figure(demsar()).get_supxlabel()


def test_values_of_a_row_are_one_line_however_they_are_written():
    table = ablation((0, 1, 2, 3))
    floats = {row: (key, float(value)) for row, (key, value) in table.parameters.items()}  # "weight=1" and 1.0
    lines = curve_figure(replace(table, parameters=floats)).axes[0].containers
    assert [len(line.lines[0].get_xdata()) for line in lines] == [3, 3]  # two domains; the last value has not run
