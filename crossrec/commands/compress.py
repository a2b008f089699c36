"""``crossrec compress``: a run with a smaller or faster text model, and what that costs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

GROUP = "compress"


def main(arguments: list[str]) -> None:
    """Compress a run and print what was measured."""
    from crossrec.config import options as listed

    methods = "\n".join(f"  {name:<18} {text}" for name, text in listed(GROUP).items())
    parser = argparse.ArgumentParser(
        prog="crossrec compress",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Compress the text model of a finished run, or its cached vectors. The result is a run folder\n"
        f"beside it, for evaluate, recommend and compare.\n\nmethods:\n{methods}\n\n"
        "Options of a method are those of conf/compress/METHOD.yaml.",
        epilog="example: crossrec compress runs/food_kitchen-mmd-0123456789ab method=layer_drop every=2 steps=500",
    )
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("words", nargs="+", metavar="KEY=VALUE", help="method=NAME, and options of the method")
    parser.add_argument("--texts", type=int, default=512, metavar="N", help="titles to time both on (default 512)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds of timing (default 3)")
    parser.add_argument(
        "--config-dir", type=Path, action="append", default=[], metavar="DIR", help="one more folder of configs"
    )
    options = parser.parse_intermixed_args(arguments)
    method = method_of(options.words, options.config_dir)

    from crossrec.runs.compress import compress
    from crossrec.runs.compressed import REPORT

    run = compress(options.run, method, options.texts, options.rounds)
    _print(run.id, run.config["compression"], json.loads((run.path / REPORT).read_text()))
    print(f"run folder: {run.path}")


def method_of(words: Sequence[str], config_dirs: Sequence[Path] = ()) -> dict[str, Any]:
    """Read ``method=NAME`` and the options of its yaml.

    Args:
        words: of the command line.
        config_dirs: more folders of configs.

    Returns:
        The config of the compression, with its ``name``.

    Raises:
        CrossrecError: a word is no ``key=value``, no method is named, or it or an option does not exist.
    """
    from omegaconf import OmegaConf

    from crossrec.config import option_files
    from crossrec.errors import CrossrecError
    from crossrec.suggestions import nearest

    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise CrossrecError(f"{word!r} is not an option: write key=value, as in method=int8_dynamic")
        given[key] = value
    files = option_files(GROUP, config_dirs)
    name = given.pop("method", None)
    if name is None:
        raise CrossrecError(f"no method is named: add method= {', '.join(sorted(files))}")
    if name not in files:
        raise CrossrecError(f"no option {name!r} for method{nearest(name, list(files))}")
    config: Any = OmegaConf.to_container(OmegaConf.load(files[name][1]))
    known = [key for key in config if key != "_target_"]
    for key in given:
        if key not in known:
            raise CrossrecError(f"method={name} has no option {key!r}{nearest(key, known)}")
    values: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"{key}={value}" for key, value in given.items()]))
    return {"name": name, **config, **values}


def _print(run_id: str, compression: Mapping[str, Any], report: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    timed = report["timed"]
    table = Table(title=f"{run_id}: {compression['method']['name']}", title_justify="left")
    for column in ("", "before", "after", "after / before"):
        table.add_column(column, justify="left" if not column else "right", overflow="fold")
    for key, label in (("stored", "model, files"), ("memory", "model, memory"), ("cached", "vectors, cache")):
        before, after = report[key]
        if before is not None and after is not None:
            table.add_row(label, _size(before), _size(after), f"{after / before:.2f}")
    before, after = report["items/s"]
    table.add_row("items/s", f"{before:,.0f}", f"{after:,.0f}", f"{after / before:.2f}")
    table.add_row("cosine of text vectors", "1", f"{report['cosine']['texts']:.4f}", "")
    table.add_row("cosine of item vectors", "1", f"{report['cosine']['items']:.4f}", "")
    for domain, (before, after) in report["valid"].items():
        kept = f"{100 * after / before:.1f} %" if before else ""
        table.add_row(f"{report['metric']}, {escape(domain)}, validation", f"{before:.4f}", f"{after:.4f}", kept)
    console = Console()
    console.print(table)
    facts = "; ".join(f"{key} {_plain(value)}" for key, value in report["facts"].items())
    console.print(escape(facts), soft_wrap=True, highlight=False)
    console.print(
        f"items/s: median of {timed['rounds']} alternating rounds over {timed['texts']} texts, "
        f"{timed['threads']} threads, {timed['device']}", soft_wrap=True, highlight=False,
    )  # fmt: skip


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 1e5 else f"{count / 1e3:,.1f} kB"


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
