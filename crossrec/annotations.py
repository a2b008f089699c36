"""Whether a plain value of a config fits the annotation of what takes it, and how to say what would."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from types import NoneType, SimpleNamespace, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import typing_extensions

NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    NoneType: "null",
    Path: "a path",
}
LISTS = (list, tuple, set, frozenset, Sequence, Collection, Iterable, AbstractSet)


class Mismatch(NamedTuple):
    """A value that does not fit.

    Attributes:
        key: its place, below the key that was asked about.
        value: itself.
        expected: what would fit, in words.
    """

    key: str
    value: Any
    expected: str


def parameters(target: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """Return what may be given to a class or function by name.

    Returns:
        Name -> annotation (Any where there is none, or where it cannot be read), and whether other names go too.
    """
    function = inspect.unwrap(getattr(target, "__init__") if isinstance(target, type) else target)  # noqa: B009
    found: dict[str, Any] = {}
    others = False
    for parameter in inspect.signature(target).parameters.values():
        annotation = _read(parameter.annotation, function)
        annotation = annotation | None if parameter.default is None and annotation is not Any else annotation
        if parameter.kind is parameter.VAR_KEYWORD:
            options = get_args(annotation)[0] if get_origin(annotation) is typing_extensions.Unpack else None
            others = options is None
            found.update(get_type_hints(options) if options else {})
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            found[parameter.name] = annotation
    return found, others


def _read(annotation: Any, function: Any) -> Any:
    """Evaluate an annotation that was written as a text; Any where its names are not to be had at run time."""
    if annotation is inspect.Parameter.empty:
        return Any
    known = {**vars(typing_extensions), **getattr(function, "__globals__", {})}
    holder = SimpleNamespace(__annotations__={"it": annotation})
    try:
        return get_type_hints(holder, known, include_extras=True)["it"]
    except Exception:  # a name that only type checkers import
        return Any


def mismatch(key: str, value: Any, annotation: Any) -> Mismatch | None:
    """Find the innermost value that does not fit; None when all do.

    A node with a ``_target_`` fits everything, for what it builds is not known here; a number fits a text, because a
    command line cannot tell them apart, and is left to whoever takes it.

    Args:
        key: where ``value`` is, as on the command line.
        value: plain Python values.
        annotation: a type, evaluated.

    >>> mismatch("optimizer.lr", "abc", float | None)
    Mismatch(key='optimizer.lr', value='abc', expected='a number or null')
    >>> mismatch("domains", {"films": "films.csv"}, Mapping[str, Mapping[str, str]])
    Mismatch(key='domains.films', value='films.csv', expected='a mapping {name: a text}')
    >>> mismatch("ks", [1, 5], Sequence[int])
    """
    if isinstance(value, Mapping) and "_target_" in value:
        return None
    kinds = _kinds(annotation)
    tried = [_one(key, value, kind) for kind in kinds]
    if None in tried:
        return None
    inner = [found for found in tried if found is not None and found.key != key]
    return inner[0] if inner else Mismatch(key, value, _words(annotation))


def _kinds(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return tuple(kind for part in get_args(annotation) for kind in _kinds(part))
    return (NoneType,) if annotation is None else (annotation,)


def _one(key: str, value: Any, kind: Any) -> Mismatch | None:
    """As :func:`mismatch`, of one kind of a union."""
    wrong = Mismatch(key, value, "")
    origin, parts = get_origin(kind) or kind, get_args(kind)
    if origin in (Any, object, Callable):
        return None
    if origin is Literal:
        return None if any(value == p and type(value) is type(p) for p in parts) else wrong
    if origin is float:
        return None if isinstance(value, int | float) and not isinstance(value, bool) else wrong
    if origin is int:
        return None if isinstance(value, int) and not isinstance(value, bool) else wrong
    if origin in (str, Path):
        return None if isinstance(value, str | int | float) and not isinstance(value, bool) else wrong
    if origin in (bool, NoneType):
        return None if isinstance(value, origin) else wrong
    if origin in LISTS:
        if not isinstance(value, list | tuple):
            return wrong
        each = parts[0] if parts and (origin is not tuple or parts[1:] in ((), (...,))) else Any
        return next((wrong for v in value if mismatch(key, v, each)), None)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            return wrong
        each = parts[1] if len(parts) == 2 else Any
        return next((m for k, v in value.items() if (m := mismatch(f"{key}.{k}", v, each))), None)
    return wrong if isinstance(origin, type) else None  # no plain value is an object of another class


def _words(annotation: Any) -> str:
    said = list(dict.fromkeys(word for kind in _kinds(annotation) for word in _said(kind)))
    if "a number" in said and "a whole number" in said:
        said.remove("a whole number")
    said = said or ["an object: {_target_: ...}"]
    return " or ".join(part for part in (", ".join(said[:-1]), said[-1]) if part)


def _said(kind: Any) -> list[str]:
    """What of a kind can be written on a command line, in words; nothing for a class of objects."""
    origin, parts = get_origin(kind) or kind, get_args(kind)
    if origin is Literal:
        return [str(p) for p in parts]
    if origin in NAMES:
        return [NAMES[origin]]
    if origin in LISTS:
        return [f"a list [{_words(parts[0])}, ...]" if parts else "a list"]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return [f"a mapping {{name: {_words(parts[1])}}}" if len(parts) == 2 else "a mapping"]
    return []
