from html.parser import HTMLParser

import pytest
from tables import SPECIAL, TABLES, example, plain

from crossrec.studies.html import html

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
    assert row[1][2] == "0.2312 ± 0.0010***gain +15.6% [+10.6, +20.6]"
    assert row[1][1]["title"] == ", ".join(f"a_b-recall@10-{i} (seed {i})" for i in range(3))
    assert "0.2312" in page.text["strong"] and "0.2100" in page.text["u"] and "***" in page.text["sup"]
    (row,) = [row for row in page.rows if row[0][2] == "never run"]
    assert row[1][2] == "–published 0.5000not run" and row[1][1]["title"] == "no run"
    assert "Doe & Roe 2020" in page.text["li"]


def test_html_escapes_attributes():
    table = plain({'"><script>': [[0.1]]})
    assert "<script>" not in html(table)
