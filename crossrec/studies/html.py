"""A paper table as one HTML page that needs nothing else."""

from __future__ import annotations

from html import escape

from crossrec.studies.gaps import HEADER, LEGEND, TITLE, gap_block
from crossrec.studies.shown import DETAILS, Span, heading, headings, legend, lines, number, one_line, place, stars
from crossrec.studies.table import Cell, Table

STYLE = """
body { font: 16px/1.45 system-ui, sans-serif; color: #111; background: #fff; margin: 2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; border: solid; border-width: 2px 0; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .5rem; }
th, td { padding: .25rem .75rem; vertical-align: top; white-space: nowrap; }
thead th { font-weight: 600; text-align: center; }
thead th[scope=colgroup] { border-bottom: 1px solid; }
tbody th { font-weight: 400; text-align: left; white-space: normal; min-width: 8rem; }
tbody td { text-align: right; }
tbody tr { border-top: 1px solid #bbb; }
tbody tr:first-child { border-top: 1px solid; }
td small { display: block; color: #444; }
td u { text-underline-offset: .15em; }
ul { padding-left: 1.2rem; max-width: 60rem; }
@media print { body { margin: 0; } td small { color: #000; } .wide { overflow: visible; } }
""".strip()


def html(table: Table) -> str:
    """The table as an accessible page: caption, header cells with their scope, the run ids in each cell's title."""
    name = escape(heading(table))
    body = []
    for line in lines(table):
        if line.kind == "value":
            cells = "".join(_cell(cell) for cell in line.cells)
            body.append(f'<tr><th scope="row">{escape(one_line(line.row))}</th>{cells}</tr>')
    said = "\n".join(f"<li>{escape(sentence)}</li>" for sentence in legend(table, "bold", "underlined"))
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{name}</title>",
            f"<style>\n{STYLE}\n</style>",
            "</head>",
            "<body>",
            "<main>",
            f'<div class="wide" role="region" tabindex="0" aria-label="{name}">',
            "<table>",
            f"<caption>{name}</caption>",
            *_head(headings(table)),
            "<tbody>",
            *body,
            "</tbody>",
            "</table>",
            "</div>",
            *(["<ul>", said, "</ul>"] if said else []),
            *(_gaps(table) if table.gaps else []),
            "</main>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _gaps(table: Table) -> list[str]:
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in HEADER)
    body = []
    for line in gap_block(table):
        label = f"{'&emsp;' * line.level}{escape(line.label)}"
        cells = "".join(f"<td>{mean}{f' ± {std}' if std else ''}</td>" for mean, std in line.cells)
        body.append(f'<tr><th scope="row">{label}</th>{cells}</tr>')
    said = [f"<li>{escape(sentence)}</li>" for sentence in LEGEND]
    return [
        f'<div class="wide" role="region" tabindex="0" aria-label="{escape(TITLE)}">',
        "<table>",
        f"<caption>{escape(TITLE)}</caption>",
        f'<thead><tr><th scope="col">row</th>{heads}</tr></thead>',
        "<tbody>",
        *body,
        "</tbody>",
        "</table>",
        "</div>",
        *["<ul>", *said, "</ul>"],
    ]


def _head(levels: list[list[Span]]) -> list[str]:
    groups = "".join(f'<colgroup span="{span.width}"></colgroup>' for span in (levels[0] if levels else []))
    out = [f"<colgroup></colgroup>{groups}", "<thead>"]
    for i, level in enumerate(levels):
        corner = f'<th scope="col" rowspan="{len(levels)}">row</th>' if i == 0 else ""
        last = i == len(levels) - 1
        heads = [
            f'<th scope="{"col" if last else "colgroup"}" colspan="{span.width}">{escape(span.text)}</th>'
            for span in level
        ]
        out.append(f"<tr>{corner}{''.join(heads)}</tr>")
    return [*out, "</thead>"]


def _cell(cell: Cell) -> str:
    mean, std = number(cell)
    mean = {1: f"<strong>{mean}</strong>", 2: f"<u>{mean}</u>"}.get(place(cell) or 0, mean)
    shown = mean + (f" ± {std}" if std else "") + (f"<sup>{stars(cell)}</sup>" if stars(cell) else "")
    said = [(kind, say(cell)) for kind, say in DETAILS.items()]
    details = "".join(f"<small>{escape(w if k == 'status' else f'{k} {w}')}</small>" for k, w in said if w)
    runs = ", ".join(f"{value.id} (seed {value.seed})" for value in cell.values) or "no run"
    return f'<td title="{escape(runs)}">{shown}{details}</td>'
