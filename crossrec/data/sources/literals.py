"""Records as lines of JSON or, as in the metadata of Amazon 2014, of Python literals."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

_TOKEN = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\b(?:None|True|False)\b""")
_WORDS = {"None": "null", "True": "true", "False": "false"}


def read_record(text: str) -> dict[str, Any] | None:
    """Read a mapping from a line of JSON or a Python literal; None where it is neither.

    Python reads a literal as code, which takes several times as long as JSON. So a literal is written as JSON first;
    what JSON has not (tuples, prefixes of strings, control characters) is left to Python.
    """
    try:
        value = json.loads(text)
    except ValueError:
        try:
            value = json.loads(_quoted(text) or _TOKEN.sub(_token, text))
        except (ValueError, SyntaxError):
            try:
                value = ast.literal_eval(text.strip())
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                return None
    return value if isinstance(value, dict) else None


def _quoted(text: str) -> str | None:
    """Give the strings of a literal double quotes; None where that is not done by replacing them.

    Without a backslash, and with single quotes in pairs before each double quote, a double quote begins or ends a
    string that has double quotes already: what is between the others is outside of these strings.
    """
    if "\\" in text or any(word in text for word in _WORDS):
        return None
    parts = text.split('"')
    if not len(parts) % 2 or any(part.count("'") % 2 for part in parts[::2]):
        return None
    parts[::2] = [part.replace("'", '"') for part in parts[::2]]
    return '"'.join(parts)


def _token(token: re.Match[str]) -> str:
    text = token[0]
    if text in _WORDS:
        return _WORDS[text]
    if "\\" in text:
        return json.dumps(ast.literal_eval(text))
    return text if text[0] == '"' else '"' + text[1:-1].replace('"', '\\"') + '"'
