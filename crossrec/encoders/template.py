"""Templates: the fields of an item, or of a user, in a sentence."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from crossrec.data.schema import TEXTS
from crossrec.errors import CrossrecError

_TOKEN = re.compile(r"\{\{|\}\}|\[\[|\]\]|\{[^{}\[\]]*\}|[\[\]]|[^{}\[\]]+|.", re.DOTALL)
_DOUBLED = ("{{", "}}", "[[", "]]")


@dataclass
class _Segment:
    """Literal text and fields in turn; ``optional`` where it stood in brackets."""

    optional: bool
    parts: list[tuple[str, bool]]
    """(literal, False) or (field, True)."""

    @property
    def fields(self) -> list[str]:
        return [part for part, is_field in self.parts if is_field]


class Template:
    """Text with ``{field}`` for an item's fields and ``[...]`` around what may be left out; the same of a user's.

    A segment in brackets is left out where the item lacks one of its fields. Fields outside of brackets are needed: an
    item that lacks one is not filled in, nor is one of whose fields none is left. ``{{``, ``}}``, ``[[`` and ``]]``
    stand for the single characters.

    ``"{title}[ by {brand}][, {category}]"`` makes ``"Comb by Acme, Hair"``, ``"Comb, Hair"`` or ``"Comb"``.

    Args:
        text: the template.
        fields: those that it may name.
        owner: config node that it is of, for messages.

    Raises:
        CrossrecError: it names no field or an unknown one, or a bracket or brace has no partner.
    """

    def __init__(self, text: str, fields: Sequence[str] = TEXTS, owner: str = "item_encoder") -> None:
        self.text, self._fields, self._owner = text, fields, owner
        self._segments = [_Segment(False, [])]
        for token in _TOKEN.findall(text):
            inside = self._segments[-1].optional
            if token in ("[", "]"):
                if (token == "[") is inside:
                    raise self._wrong("brackets go in pairs and not into each other; write [[ or ]] for the character")
                self._segments.append(_Segment(not inside, []))
            elif token in _DOUBLED:
                self._segments[-1].parts.append((token[0], False))
            elif token in ("{", "}"):
                raise self._wrong("braces go in pairs; write {{ or }} for the character")
            elif token.startswith("{"):
                self._segments[-1].parts.append((self._field(token[1:-1]), True))
            else:
                self._segments[-1].parts.append((token, False))
        if self._segments[-1].optional:
            raise self._wrong("brackets go in pairs and not into each other; write [[ or ]] for the character")
        if not any(segment.fields for segment in self._segments):
            raise self._wrong(f"it names no field; write {{{fields[0]}}}, or another of {', '.join(fields)}")
        if any(segment.optional and not segment.fields for segment in self._segments):
            raise self._wrong("a segment in brackets names no field, so it would never be left out")

    def _field(self, name: str) -> str:
        if name not in self._fields:
            raise self._wrong(f"there is no field {{{name}}}; fields are {', '.join(self._fields)}")
        return name

    def _wrong(self, why: str) -> CrossrecError:
        return CrossrecError(f"{self._owner}.template={self.text!r}: {why}")

    def fill(self, fields: Mapping[str, pl.Expr]) -> pl.Expr:
        """Fill in items.

        Args:
            fields: those that the items have, as expressions of strings, null where an item lacks one.

        Returns:
            Expression of the texts, null for items that are not filled in.
        """
        missing = pl.lit(None, dtype=pl.String)
        pieces, needed, used = [], [], []
        for segment in self._segments:
            if not segment.parts:
                continue
            parts = [fields.get(part, missing) if is_field else pl.lit(part) for part, is_field in segment.parts]
            joined = pl.concat_str(parts)  # null where a part is
            pieces.append(joined.fill_null("") if segment.optional else joined)
            if segment.optional:
                used.append(joined.is_not_null())
            elif segment.fields:
                needed.append(joined.is_not_null())
        shown = pl.all_horizontal(needed) if needed else pl.any_horizontal(used)
        return pl.when(shown).then(pl.concat_str(pieces).str.strip_chars())
