"""From a study file to a checked :class:`~crossrec.studies.study.Study`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from crossrec.errors import CrossrecError
from crossrec.studies.beginnings import check_rows, named_row
from crossrec.studies.search_space import Dimension, read_space, word_of
from crossrec.studies.study import Row, Study, Tolerance
from crossrec.suggestions import nearest

KEYS = (
    "name", "title", "base", "data", "rows", "seeds", "metrics", "domains", "baseline", "published", "source",
    "protocol", "tolerance", "config_dir", "test", "reports",
)  # fmt: skip
ROW_KEYS = ("overrides", "runs", "over", "search", "init")
TESTS = ("permutation", "wilcoxon")
REPORTS = ("gap",)


def read_study(path: Path) -> Study:
    """Read and check a study file; :mod:`crossrec.studies.jobs` composes its runs.

    Raises:
        CrossrecError: names the file and the key at fault, what was expected and the nearest valid names.
    """
    import yaml

    if not path.is_file():
        raise CrossrecError(f"no study file {path}: experiments/ of a checkout has some")
    try:
        text = path.read_text()
        _refuse_repeated(yaml.compose(text, Loader=yaml.SafeLoader), path)
        node = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise CrossrecError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    return _Reader(path, node).study()


class _Reader:
    def __init__(self, path: Path, node: Any) -> None:
        self.path = path
        if not isinstance(node, dict):
            raise self.error("must be a mapping with the keys rows, seeds and metrics")
        self.node: dict[str, Any] = node

    def error(self, message: str) -> CrossrecError:
        return CrossrecError(f"{self.path}: {message}")

    def study(self) -> Study:
        node = self.node
        self.known(node, KEYS, "")
        for key in ("rows", "seeds", "metrics"):
            if not node.get(key):
                raise self.error(f"{key} is missing")
        rows = self.rows()
        names = [row.name for row in rows]
        baseline = node.get("baseline")
        if baseline is not None and baseline not in names:
            raise self.error(f"baseline {baseline!r} is not a row{nearest(str(baseline), names)}")
        data = node.get("data") or {"": []}
        if not isinstance(data, dict):
            raise self.error("data must map names to lists of overrides")
        test = node.get("test", TESTS[0])
        if test not in TESTS:
            raise self.error(f"test={test!r} must be one of {', '.join(TESTS)}")
        reports = self.words(node.get("reports"), "reports")
        for name in reports:
            if name not in REPORTS:
                raise self.error(f"reports: {name!r} is none of {', '.join(REPORTS)}{nearest(name, REPORTS)}")
        tolerance = node.get("tolerance") or {}
        if not isinstance(tolerance, dict) or not all(
            type(v) in (int, float) and math.isfinite(v) and v >= 0 for v in tolerance.values()
        ):
            raise self.error("tolerance must be a mapping of relative and absolute to numbers from 0 on")
        self.known(tolerance, ("relative", "absolute"), "tolerance.")
        if node.get("published") and not tolerance:
            raise self.error("published values need a tolerance, e.g. tolerance: {relative: 0.02}")
        metrics = self.words(node["metrics"], "metrics")
        domains = self.words(node["domains"], "domains") if node.get("domains") else None
        return Study(
            path=self.path,
            name=str(node.get("name", self.path.stem)),
            title=str(node.get("title", node.get("name", self.path.stem))),
            base=self.words(node.get("base"), "base"),
            data={str(name): self.words(words, f"data.{name}") for name, words in data.items()},
            rows=rows,
            seeds=self.seeds(),
            metrics=metrics,
            domains=domains,
            baseline=baseline,
            published=self.published(names, [str(d) for d in data], metrics, domains),
            source=str(node.get("source", "")),
            protocol=str(node.get("protocol", "")),
            tolerance=Tolerance(**{k: float(v) for k, v in tolerance.items()}),
            config_dirs=tuple(self.folder(f) for f in self.words(node.get("config_dir"), "config_dir")),
            test=test,
            reports=reports,
        )

    def known(self, node: Mapping[str, Any], keys: Sequence[str], prefix: str) -> None:
        for key in node:
            if key not in keys:
                raise self.error(f"no key {prefix}{key}{nearest(str(key), keys)}")

    def words(self, node: Any, key: str) -> tuple[str, ...]:
        if node is None:
            return ()
        if isinstance(node, str):
            node = [node]
        if not isinstance(node, list) or not all(isinstance(w, str) for w in node):
            raise self.error(f"{key} must be a list of words, such as [strategy=mmd, 'adaptation=[mmd]'], not {node!r}")
        return tuple(node)

    def seeds(self) -> tuple[int, ...]:
        seeds = self.node["seeds"]
        if not isinstance(seeds, list) or not all(type(s) is int and s >= 0 for s in seeds):
            raise self.error(f"seeds must be a list of whole numbers from 0 on, not {seeds!r}")
        if len(set(seeds)) < len(seeds):
            raise self.error(f"seeds {seeds} names one twice")
        return tuple(seeds)

    def folder(self, name: str) -> Path:
        folder = (self.path.parent / name).resolve()
        if not folder.is_dir():
            raise self.error(f"config_dir {name} is not a folder beside the study")
        return folder

    def rows(self) -> tuple[Row, ...]:
        node = self.node["rows"]
        if not isinstance(node, dict):
            raise self.error("rows must map names to lists of overrides")
        made: list[Row] = []
        for name, value in node.items():
            init = named_row(self.path, str(name), value)
            made += [replace(row, init=init) for row in self.row(str(name), value)]
        names = [row.name for row in made]
        for name in names:
            if names.count(name) > 1:
                raise self.error(f"two rows are named {name!r}")
        check_rows(self.path, made)
        return tuple(made)

    def row(self, name: str, node: Any) -> list[Row]:
        key = f"rows.{name}"
        if not isinstance(node, dict):
            return [Row(name, self.words(node, key))]
        self.known(node, ROW_KEYS, f"{key}.")
        overrides = self.words(node.get("overrides"), f"{key}.overrides")
        runs = node.get("runs") or [[]]
        if not isinstance(runs, list):
            raise self.error(f"{key}.runs must be a list of lists of overrides")
        parts = tuple(self.words(run, f"{key}.runs") for run in runs)
        over = node.get("over")
        search = self.search(node.get("search") or {}, key, over)
        if over is None:
            return [Row(name, overrides, parts, search=search)]
        if not isinstance(over, dict) or len(over) != 1 or not all(isinstance(v, list) and v for v in over.values()):
            raise self.error(f"{key}.over must map one config key to a list of values")
        ((parameter, values),) = over.items()
        short = re.sub(r"^.*\.", "", parameter)
        return [
            Row(
                f"{name} {short}={word}",
                (*overrides, f"{parameter}={word}"),
                parts,
                (parameter, _number(word)),
                search,
            )
            for word in map(word_of, values)
        ]

    def search(self, node: Any, key: str, over: Any) -> tuple[Dimension, ...]:
        if not isinstance(node, dict):
            raise self.error(f"{key}.search must map config keys to search spaces")
        space = read_space(node, f"{self.path}: {key}")
        for searched in (d.key.lstrip("+") for d in space):
            if searched == "seed":
                raise self.error(f"{key}.search: seed is searched; it is no hyper-parameter")
            if isinstance(over, dict) and searched in over:
                raise self.error(f"{key}: {searched} is both searched and given by over")
        return space

    def published(
        self, rows: Sequence[str], data: Sequence[str], metrics: Sequence[str], domains: Sequence[str] | None
    ) -> dict[tuple[str, str, str, str], tuple[float, float | None]]:
        """Read the CSV of published values, ``dataset,method,domain,metric,value,std``; other methods stay out.

        ``dataset`` is a name of the study's ``data``, and is there exactly when the study names any.
        """
        name = self.node.get("published")
        if name is None:
            return {}
        import polars as pl

        path = self.path.parent / str(name)
        if not path.is_file():
            raise self.error(f"published: no file {name} beside the study")
        try:
            frame = pl.read_csv(path, infer_schema=False)
        except pl.exceptions.PolarsError as error:
            raise CrossrecError(f"{path} is not a CSV table: {error}") from None
        named = len(data) > 1 or bool(data[0])
        wanted = ("dataset", "method", "domain", "metric", "value")[0 if named else 1 :]
        missing = [c for c in wanted if c not in frame.columns]
        if missing:
            raise CrossrecError(f"{path} has no column {missing[0]!r}; it needs {', '.join(wanted)}")
        if "dataset" in frame.columns and not named:
            raise CrossrecError(
                f"{path} has a column 'dataset', but {self.path.name} names no data: leave it out, or name them "
                f"as in data: {{ml-100k: [data=movielens]}}"
            )
        if not self.node.get("source"):
            raise self.error("published values need a source: say where they are from")
        found: dict[tuple[str, str, str, str], tuple[float, float | None]] = {}
        for line, entry in enumerate(frame.iter_rows(named=True), 2):
            key = (
                entry["method"],
                entry["dataset"] if named else "",
                entry["domain"],
                entry["metric"],
            )
            try:
                value = float(entry["value"])
                std = float(entry["std"]) if entry.get("std") else None
            except (TypeError, ValueError):
                raise CrossrecError(f"{path}, line {line}: value and std must be numbers") from None
            if not math.isfinite(value) or not math.isfinite(std or 0.0):
                raise CrossrecError(f"{path}, line {line}: value and std must be finite")
            if key[0] in rows and key[1] in data:
                for what, name, known in (("domain", key[2], domains), ("metric", key[3], metrics)):
                    if known is not None and name not in known:
                        raise CrossrecError(
                            f"{path}, line {line}: {what} {name!r} is not among the study's {what}s"
                            f"{nearest(name or '', known)}"
                        )
                if key in found:
                    raise CrossrecError(f"{path}, line {line}: a second value for {' '.join(filter(None, key))}")
                found[key] = (value, std)
        if not found:
            raise CrossrecError(f"{path}: no method is named as a row of {self.path.name} ({', '.join(rows)})")
        return found


def _number(word: str) -> float | str:
    """A number where the word is one: YAML reads ``1e-4`` as text."""
    try:
        return float(word)
    except ValueError:
        return word


def _refuse_repeated(node: Any, path: Path, prefix: str = "") -> None:
    """Refuse a key that a mapping has twice, of which YAML keeps the last; merged keys (``<<``) may be replaced."""
    if node is None or isinstance(node.value, str):
        return
    seen: set[str] = set()
    for child in node.value:
        key, value = child if isinstance(child, tuple) else (None, child)
        name = f"{prefix}{key.value}" if key is not None else prefix
        if name in seen:
            raise CrossrecError(f"{path}, line {key.start_mark.line + 1}: {name} is named twice")
        if key is not None:
            seen.add(name)
        _refuse_repeated(value, path, f"{name}." if key is not None else prefix)
