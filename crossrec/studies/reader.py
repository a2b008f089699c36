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
from crossrec.studies.published import read_published
from crossrec.studies.search_space import Dimension, read_space, word_of
from crossrec.studies.study import Published, Row, Study, Tolerance, refuse_seed
from crossrec.suggestions import nearest

KEYS = (
    "name", "title", "base", "data", "rows", "seeds", "metrics", "domains", "baseline", "published", "source",
    "protocol", "tolerance", "config_dir", "test", "reports", "stage",
)  # fmt: skip
ROW_KEYS = ("overrides", "runs", "over", "search", "init")
TESTS = ("permutation", "wilcoxon")
REPORTS = ("gap",)
STAGES = ("test", "valid")


def read_study(path: Path) -> Study:
    """Read and check a study file; :mod:`crossrec.studies.jobs` composes its runs.

    Raises:
        CrossrecError: names the file and the key at fault, what was expected and the nearest valid names.
    """
    import yaml

    if not path.is_file():
        raise CrossrecError(f"no study file {path}: experiments/ of a checkout has some")
    try:
        text = path.read_text(encoding="utf-8")
        _refuse_repeated(yaml.compose(text, Loader=yaml.SafeLoader), path)
        node = yaml.safe_load(text)
    except UnicodeDecodeError as error:
        raise CrossrecError(f"{path} is not UTF-8 text (byte {error.start + 1}): save it as UTF-8") from None
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
        stage = node.get("stage", STAGES[0])
        if stage not in STAGES:
            raise self.error(f"stage={stage!r} must be one of {', '.join(STAGES)}")
        if stage == "valid" and node.get("published"):
            raise self.error("published values are of the test set: leave out stage: valid")
        if stage == "valid" and "test" in node:
            raise self.error("test compares users on the test set: leave out test, or stage: valid")
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
        metrics = self.words(node["metrics"], "metrics")
        domains = self.words(node["domains"], "domains") if node.get("domains") else None
        return Study(
            path=self.path,
            name=str(node.get("name", self.path.stem)),
            title=str(node.get("title", node.get("name", self.path.stem))),
            base=self.overrides(node.get("base"), "base"),
            data={str(name): self.overrides(words, f"data.{name}") for name, words in data.items()},
            rows=rows,
            seeds=self.seeds(),
            metrics=metrics,
            domains=domains,
            baseline=baseline,
            published=self.published(names, [str(d) for d in data], metrics, domains) if node.get("published") else {},
            source=str(node.get("source", "")),
            protocol=str(node.get("protocol", "")),
            tolerance=Tolerance(**{k: float(v) for k, v in tolerance.items()}),
            config_dirs=tuple(self.folder(f) for f in self.words(node.get("config_dir"), "config_dir")),
            test=test,
            reports=reports,
            stage=stage,
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

    def overrides(self, node: Any, key: str) -> tuple[str, ...]:
        words = self.words(node, key)
        refuse_seed(f"{self.path}: {key}", words)
        return words

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
            return [Row(name, self.overrides(node, key))]
        self.known(node, ROW_KEYS, f"{key}.")
        overrides = self.overrides(node.get("overrides"), f"{key}.overrides")
        runs = node.get("runs") or [[]]
        if not isinstance(runs, list):
            raise self.error(f"{key}.runs must be a list of lists of overrides")
        parts = tuple(self.overrides(run, f"{key}.runs") for run in runs)
        over = node.get("over")
        search = self.search(node.get("search") or {}, key, over)
        if over is None:
            return [Row(name, overrides, parts, search=search)]
        if not isinstance(over, dict) or len(over) != 1 or not all(isinstance(v, list) and v for v in over.values()):
            raise self.error(f"{key}.over must map one config key to a list of values")
        ((parameter, values),) = over.items()
        refuse_seed(f"{self.path}: {key}.over", [f"{parameter}={values}"])
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

    def published(
        self, rows: Sequence[str], data: Sequence[str], metrics: Sequence[str], domains: Sequence[str] | None
    ) -> Published:
        name = str(self.node["published"])
        if not (self.path.parent / name).is_file():
            raise self.error(f"published: no file {name} beside the study")
        for key, example in (("tolerance", "tolerance: {relative: 0.02}"), ("source", "source: A. Author, 2024")):
            if not self.node.get(key):
                raise self.error(f"published values need a {key}, e.g. {example}")
        return read_published(self.path.parent / name, self.path.name, rows, data, metrics, domains)

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
