"""Every package that crossrec imports is declared in pyproject.toml.

The environment of the tests has all extras, and packages that came with others: an import of one that is not declared
works here and fails for a user. The wheel test installs what is declared and nothing else; this one names the import.
"""

import ast
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from running import REPO

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

OWN = {"crossrec", "hydra_plugins"}
ABSENT = {"umap": "umap-learn"}
"""Distributions of modules that need not be installed here."""

PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
CORE = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
EXTRAS = {
    name: {canonicalize_name(Requirement(line).name) for line in lines}
    for name, lines in PROJECT["optional-dependencies"].items()
    if name != "test"
}


def imports(node: ast.AST, lazy: bool = False) -> Iterator[tuple[str, bool]]:
    """Top-level names that a tree imports, and whether only a function does; imports of types alone are left out."""
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        names = [node.module]
    elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
        names = [a.value for a in node.args if isinstance(a, ast.Constant)]
    for name in names:
        yield name.partition(".")[0], lazy
    for child in ast.iter_child_nodes(node):
        yield from imports(child, lazy or isinstance(node, ast.FunctionDef))


def used() -> dict[tuple[str, bool], Path]:
    found: dict[tuple[str, bool], Path] = {}
    for path in sorted((REPO / "crossrec").rglob("*.py")):
        for key in imports(ast.parse(path.read_text())):
            if key[0] not in sys.stdlib_module_names and key[0] not in OWN:
                found.setdefault(key, path)
    return found


def test_what_is_imported_is_declared() -> None:
    installed = packages_distributions()
    every = CORE.union(*EXTRAS.values())
    found = used()
    assert {"torch", "optuna", "ot", "umap"} <= {module for module, _ in found}
    for (module, lazy), path in found.items():
        distributions = {canonicalize_name(d) for d in installed.get(module, [ABSENT.get(module, module)])}
        assert distributions & (every if lazy else CORE), f"{path} imports {module}, of {distributions}"


def test_a_missing_extra_is_named() -> None:
    """Each extra that code imports by itself, and not a plugin of Hydra's or a model, is named by an error of ours."""
    text = "\n".join(path.read_text() for path in (REPO / "crossrec").rglob("*.py"))
    named = set(re.findall(r"pip install 'crossrec\[(\w+)\]'", text))
    installed = packages_distributions()
    for module in {module for module, _ in used()}:
        distributions = {canonicalize_name(d) for d in installed.get(module, [ABSENT.get(module, module)])}
        for extra, members in EXTRAS.items():
            if distributions & members and not distributions & CORE:
                assert extra in named, f"nothing says that {module} is of crossrec[{extra}]"
    assert named <= EXTRAS.keys()
