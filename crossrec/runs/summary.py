"""What a person sees of runs: tables in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossrec.config import target_name, target_of
from crossrec.runs.store import RunFolder

if TYPE_CHECKING:
    import polars as pl

SHOWN = ("recall@10", "ndcg@10", "hit@10", "mrr@10", "coverage@10")


def domain_rows(metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Split flat metric names ``stage/domain/metric`` into domain -> metric -> value; groups are left out."""
    rows: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        parts = key.split("/")
        if len(parts) == 3:
            rows.setdefault(parts[1], {})[parts[2]] = value
    return rows


def selecting(run: RunFolder) -> tuple[str, ...]:
    """Names of the domains whose validation selected a run's epoch, by its mean over them: no others are validated."""
    return tuple(domain for domain in domain_rows(run.metrics["valid"]) if domain != "macro")


def print_run(run: RunFolder) -> None:
    """Print a finished run's test metrics per domain."""
    from rich.console import Console
    from rich.table import Table

    metrics = run.metrics
    rows = domain_rows(metrics["test"])
    names = [m for m in SHOWN if any(m in row for row in rows.values())] or sorted(next(iter(rows.values()), {}))[:6]
    table = Table(title=f"{run.id}: test", title_justify="left")
    table.add_column("domain")
    for name in names:
        table.add_column(name, justify="right")
    for domain, row in rows.items():
        table.add_row(domain, *(f"{row[n]:.4f}" if n in row else "" for n in names))
    console = Console()
    console.print(table)
    if metrics.get("protocol") != "full":
        console.print(f"[yellow]sampled protocol[/]: candidates {metrics.get('candidates', '')[:12]}")
    if metrics.get("best_epoch") is not None:
        by = selecting(run)
        how = "validation" if len(by) == 1 else "the mean validation"
        console.print(f"selected: epoch {metrics['best_epoch']} by {how} {metrics['monitor']} of {', '.join(by)}")
    console.print(f"run folder: {run.path}", soft_wrap=True)


def find_runs(root: Path) -> list[RunFolder]:
    """Run folders below ``root``, oldest first."""
    folders = [p.parent for p in root.glob("*/config.yaml")] if root.is_dir() else []
    return sorted((RunFolder(p) for p in folders), key=lambda r: r.status.get("started", 0.0))


def print_runs(runs: Iterable[RunFolder]) -> None:
    """Print one line a run: strategy, data, target, seed, state and the main test metrics of its target."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="runs", title_justify="left")
    for name in ("run", "strategy", "items", "users", "adaptation", "target", "seed", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("recall@10", "ndcg@10"):
        table.add_column(name, justify="right", no_wrap=True)
    for run in runs:
        table.add_row(*_line(run))
    # a cut run id is of no use: narrow terminals wrap whole lines, and pipes get them whole
    Console(width=max(Console().width, 160)).print(table, soft_wrap=True)


def runs_frame(runs: Iterable[RunFolder]) -> pl.DataFrame:
    """Test metrics of finished runs, a row for each run, domain and metric, with what made them."""
    import polars as pl

    rows = []
    for run in runs:
        if not run.finished:
            continue
        config, metrics = run.config, run.metrics
        about = {
            "run": run.id,
            "git": run.versions["git"],
            "strategy": target_name(config["strategy"]),
            "items": item_encoder_name(config["item_encoder"]),
            "users": target_name(config["user_encoder"]),
            "objective": target_name(config["objective"]),
            "adaptation": "+".join(config["adaptation"]),
            "target": str(config["target"]),
            "seed": config["seed"],
            "best_epoch": metrics["best_epoch"],
            "seconds": round(run.status["seconds"], 1),
        }
        for domain, row in domain_rows(metrics["test"]).items():
            rows += [{**about, "domain": domain, "metric": name, "value": value} for name, value in row.items()]
    return pl.DataFrame(rows, infer_schema_length=None)


def item_encoder_name(node: Mapping[str, Any]) -> str:
    """Short name of an item encoder: ``id``, ``text``, or its parts, ``id+text``."""
    parts = node.get("encoders")
    return "+".join(parts) if parts else target_name(node)


def _line(run: RunFolder) -> list[str]:
    config: dict[str, Any] = run.config
    state = run.state
    values: dict[str, float] = {}
    if run.finished:
        values = domain_rows(run.metrics["test"]).get(target_of(config) or "macro", {})
    return [
        run.id,
        target_name(config["strategy"]),
        item_encoder_name(config["item_encoder"]),
        target_name(config["user_encoder"]),
        ",".join(config["adaptation"]) or "-",
        str(config["target"]),
        str(config["seed"]),
        state,
        *(f"{values[n]:.4f}" if n in values else "" for n in ("recall@10", "ndcg@10")),
    ]
