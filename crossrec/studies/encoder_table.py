"""The table of compared text models: terminal, Markdown, CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from crossrec.durations import span
from crossrec.evaluation.logme import NO_RELATION
from crossrec.runs.encoders import Absent, Comparison, Measured, Pair, Variant
from crossrec.studies.encoder_choice import RULE, Choice

if TYPE_CHECKING:
    import polars

EMPTY = "\N{EN DASH}"

NOTES = (
    "texts/s: fresh encoding on this machine, without loading. cut: texts longer than the model is told to read. "
    "cosine: mean cosine of two items. Whitenings are fitted on the sampled items that have training rows.",
    "MMD^2 and PAD: of the domains' items, as `crossrec gap` measures them; an offset and a unit change neither, so "
    "none and centre have the same.",
    "NDCG@10: training-free, as strategy=text_cosine ranks; validation queries, the sampled items as catalogue, 95% "
    "bootstrap interval over queries.",
    "LogME: log evidence, for each item and factor, of a Bayesian linear map from the vectors to the items' "
    f"co-consumption factors in the domain's training rows; {NO_RELATION:.3f} is no relation, higher is better.",
)

Row = tuple[list[str], bool]
"""Cells, and whether it is what is recommended."""


def title(comparison: Comparison) -> str:
    """What was compared on what."""
    sample = comparison.sample
    drawn = "all" if len(sample.items) == sample.of else f"{len(sample.items):,} of"
    queries = ", ".join(f"{len(d.history):,} in {d.name}" for d in sample.domains)
    return f"text encoders on {comparison.source}: {drawn} {sample.of:,} items with text; validation queries {queries}"


def lines(comparison: Comparison, choice: Choice | None) -> tuple[list[str], list[Row]]:
    """Headings, and a row for each model and whitening; a model that could not be read has one that says why."""
    pairs, domains = _pairs(comparison), [d.name for d in comparison.sample.domains]
    head = ["encoder", "parameters", "files", "texts/s", f"all {comparison.sample.of:,}", "cut", "whitening", "width"]
    head += ["cosine", *(f"{name} {a} - {b}" for name in ("MMD^2", "PAD") for a, b in pairs)]
    head += [f"{name} {d}" for name in ("NDCG@10", "LogME") for d in domains]
    absent = any(isinstance(made, Absent) for made in comparison.found)
    rows: list[Row] = []
    for made in comparison.found:
        if isinstance(made, Absent):
            rows.append(([made.candidate.name, *[EMPTY] * (len(head) - 1), made.reason], False))
            continue
        first = [
            made.candidate.name, f"{made.size.parameters / 1e6:.1f} M", f"{made.size.bytes / 1e6:.0f} MB",
            f"{made.rate:,.0f}", span(comparison.sample.of / made.rate), f"{made.cut:.1%}",
        ]  # fmt: skip
        for variant in made.variants:
            cells = _cells(variant, pairs, domains) + ([""] if absent else [])
            rows.append(([*first, *cells], choice is not None and variant is choice.variant))
            first = [""] * len(first)
    return head + (["not measured"] if absent else []), rows


def _pairs(comparison: Comparison) -> list[Pair]:
    return list(dict.fromkeys(pair for made in comparison.measured for v in made.variants for pair in v.gaps))


def _cells(variant: Variant, pairs: Sequence[Pair], domains: Sequence[str]) -> list[str]:
    gaps = [variant.gaps.get(pair) for pair in pairs]
    cells = [variant.whitening, str(variant.width), f"{round(variant.anisotropy, 3) + 0.0:.3f}"]
    cells += [EMPTY if gap is None else f"{gap.mmd:.4f}" for gap in gaps]
    cells += [EMPTY if gap is None else f"{gap.pad:.2f}" for gap in gaps]
    for domain in domains:
        low, high = variant.intervals[domain]
        cells.append(f"{variant.ndcg[domain].mean():.4f} [{low:.4f}, {high:.4f}]")
    return cells + [f"{variant.logme[d]:.3f}" if d in variant.logme else EMPTY for d in domains]


def sentences(comparison: Comparison, choice: Choice | None, missing: Sequence[str] = ()) -> list[str]:
    """What is said below the table: recommendation first, definitions last."""
    said = []
    if choice is not None:
        said = [f"Recommended: {choice.reason}", f"Train with it: {choice.line}", RULE]
        said += [f"Note: {warning}." for warning in choice.warnings]
    chance = ", ".join(f"{value:.4f} in {name}" for name, value in comparison.chance.items())
    left = ", ".join(f"{d.left_out:,} in {d.name}" for d in comparison.sample.domains)
    said.append(f"NDCG@10 of chance: {chance}. Validation queries that the sample says nothing of: {left}.")
    return [*said, *NOTES, *(f"Not on this machine: {sentence}" for sentence in missing)]


def print_comparison(comparison: Comparison, choice: Choice | None, missing: Sequence[str] = ()) -> None:
    """Print table and sentences; in a pipe, lines are as long as they must be."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    head, rows = lines(comparison, choice)
    table = Table(title=title(comparison), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(head):
        words = i in (0, 6) or name == "not measured"
        folded = name.replace(" ", "\n", 1)
        table.add_column(folded, justify="left" if words else "right", no_wrap=name != "not measured", max_width=60)
    for cells, recommended in rows:
        table.add_row(*(Text(cell) for cell in cells), style="bold" if recommended else "")
    console = Console(width=max(Console().width, 190))
    console.print(table, soft_wrap=True)
    for sentence in sentences(comparison, choice, missing):
        console.print(Text(sentence), soft_wrap=True)


def markdown(comparison: Comparison, choice: Choice | None, missing: Sequence[str] = ()) -> str:
    """The same in GitHub's Markdown, the recommended row in bold."""
    head, rows = lines(comparison, choice)

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    out = [f"**{title(comparison)}**", "", line(head), "|" + ":---|" * len(head)]
    for cells, recommended in rows:
        out.append(line([f"**{cell}**" if recommended and cell else cell for cell in cells]))
    return "\n".join([*out, "", *(f"- {sentence}" for sentence in sentences(comparison, choice, missing))]) + "\n"


def frame(comparison: Comparison, choice: Choice | None) -> polars.DataFrame:
    """Everything with full precision, a row for each model and whitening."""
    import polars as pl

    rows: list[dict[str, Any]] = []
    for made in comparison.found:
        if isinstance(made, Absent):
            rows.append({"encoder": made.candidate.name, "not_measured": made.reason})
        else:
            rows += [_record(comparison, made, variant, choice) for variant in made.variants]
    names = list(dict.fromkeys(name for row in rows for name in row))
    return pl.DataFrame([{name: row.get(name) for name in names} for row in rows], infer_schema_length=None)


def _record(comparison: Comparison, made: Measured, variant: Variant, choice: Choice | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "encoder": made.candidate.name, "whitening": variant.whitening,
        "recommended": choice is not None and variant is choice.variant, "parameters": made.size.parameters,
        "bytes": made.size.bytes, "texts_per_second": made.rate, "timed_texts": made.timed, "cut": made.cut,
        "max_length": made.limit, "items": len(comparison.sample.items), "items_with_text": comparison.sample.of,
        "width": variant.width, "cosine": variant.anisotropy,
    }  # fmt: skip
    for (a, b), gap in variant.gaps.items():
        row |= {f"{name} {a} - {b}": value for name, value in asdict(gap).items()}
    for d in comparison.sample.domains:
        values = variant.ndcg[d.name]
        low, high = variant.intervals[d.name]
        row |= {
            f"ndcg@10 {d.name}": float(values.mean()), f"ndcg@10 low {d.name}": low, f"ndcg@10 high {d.name}": high,
            f"queries {d.name}": len(values), f"chance {d.name}": comparison.chance[d.name],
            f"logme {d.name}": variant.logme.get(d.name),
        }  # fmt: skip
    return row
