"""The template language: `{{column}}`, `{{path.in[0].column}}`, `{{list[*]}}`, `[[ blocks that vanish ]]`, and `{{{{` for a literal `{{`.

A template is cut into pieces once, by one regex; filling it joins pieces with cells. A cell is never looked at as a
template, so `{{other}}` inside a cell stays what it is. Neither `str.format` nor Jinja ever sees a template or a cell.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache

from ftui.errors import UserError, listed

MAX_CHARACTERS = 1_000_000  # of one filled template: a short template can name a large cell a thousand times

PIECE = re.compile(
    r"(?P<escape>\{\{\{\{)"
    r"|\{\{(?P<name>[^{}]*)\}\}"
    r"|\[\[(?P<block>(?:(?!\[\[|\]\]).)*)\]\]",
    re.DOTALL,
)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\*)\]")


@dataclass(frozen=True)
class Placeholder:
    name: str


@dataclass(frozen=True)
class Block:
    pieces: tuple[Piece, ...]


Piece = str | Placeholder | Block


@lru_cache(maxsize=256)
def parse(template: str) -> tuple[Piece, ...]:
    """The pieces of a template. ValueError with a sentence where a brace is left open."""
    return tuple(_pieces(template))


def _pieces(template: str) -> Iterator[Piece]:
    end = 0
    for match in PIECE.finditer(template):
        yield _literal(template[end : match.start()])
        end = match.end()
        if match["escape"]:
            yield "{{"
        elif match["name"] is not None:
            yield Placeholder(_name(match["name"]))
        else:
            inside = parse(match["block"])
            # Code such as `m[[1, 2]]` names no column: it is text.
            yield from [Block(inside)] if any(names(inside)) else ["[[", *inside, "]]"]
    yield _literal(template[end:])


def _literal(text: str) -> str:
    if "{{" in text:
        around = " ".join(text[text.index("{{") :][:30].split())
        raise ValueError(
            f"“{around}” opens {{{{ and never closes it. Write {{{{column}}}}, or {{{{{{{{ for two literal braces."
        )
    return text


def _name(written: str) -> str:
    if not written.strip():
        raise ValueError("{{}} names no column. Write the column's name between the braces.")
    return written.strip()


def names(pieces: Sequence[Piece]) -> Iterator[str]:
    """What stands between the braces, in order, repeats included."""
    for piece in pieces:
        if isinstance(piece, Placeholder):
            yield piece.name
        elif isinstance(piece, Block):
            yield from names(piece.pieces)


def fill(template: str, row: Mapping[str, object]) -> str:
    """The template with the row's cells in it. UserError names a column that the row does not have."""
    filled = list(_filled(parse(template), row))
    if sum(map(len, filled)) > MAX_CHARACTERS:
        used = ", ".join(dict.fromkeys(names(parse(template))))
        raise UserError(
            f"The template grows above {MAX_CHARACTERS:,} characters with this row ({used}). Shorten the cells or the template."
        )
    return "".join(filled)


def _filled(pieces: Sequence[Piece], row: Mapping[str, object]) -> Iterator[str]:
    for piece in pieces:
        if isinstance(piece, str):
            yield piece
        elif isinstance(piece, Placeholder):
            yield as_text(lookup(row, piece.name))
        elif all(as_text(lookup(row, name)).strip() for name in names(piece.pieces)):
            yield from _filled(piece.pieces, row)


def as_text(value: object) -> str:
    """A cell as it is written into a prompt: text as it is, nothing for None and NaN, compact JSON for the rest."""
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bytes):
        raise UserError("A column of the template holds binary data (an image or sound?). Choose a column with text.")
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def lookup(row: Mapping[str, object], name: str) -> object:
    """The cell that `name` means in this row: the column of that very name, or a path into a column.

    `[*]` is all of a list, each item on a line of its own. None where a list is too short or a key is absent, as rows
    differ; UserError where there is no such column or the column holds plain text that no path can enter.
    """
    column = column_of(name, row.keys())
    if column is None:
        raise UserError(unknown(name, list(row)))
    value = row[column]
    for key, index in _STEP.findall(name[len(column) :]):
        value = parsed(value, f"{{{{{name}}}}}", column)
        if isinstance(value, dict) and key:
            value = value.get(key)
        elif isinstance(value, list) and index == "*":
            value = "\n".join(map(as_text, value))
        elif isinstance(value, list) and index:
            value = value[int(index)] if int(index) < len(value) else None
        elif value is not None:
            raise UserError(
                f"{{{{{name}}}}} finds nothing: “{key or index}” does not fit what stands in column “{column}”."
            )
    return value


def column_of(name: str, columns: Sequence[str]) -> str | None:
    """The column that `name` starts from: the longest that fits, so that a column named `a.b` wins over a path into `a`."""
    if name in columns:
        return name
    cuts = [match.start() for match in re.finditer(r"[.\[]", name)]
    return next((name[:cut] for cut in reversed(cuts) if name[:cut] in columns and _is_path(name[cut:])), None)


def _is_path(text: str) -> bool:
    return _STEP.sub("", text) == ""


def parsed(value: object, what: str, column: str) -> object:
    """A list or object that stands as text in its cell (CSV): JSON first, then Python's own notation."""
    if not isinstance(value, str) or not value.strip():
        return None if isinstance(value, str) else value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise UserError(
            f"{what} looks inside column “{column}”, which holds plain text and neither a list nor an object."
        ) from None


def unknown(name: str, columns: Sequence[str]) -> str:
    """The sentence for a column that is not there, with the closest one that is."""
    by_folded = {column.casefold(): column for column in columns}
    close = get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    if close:
        return f"There is no column “{name}”. Did you mean “{by_folded[close[0]]}”?"
    return f"There is no column “{name}”. The columns are: {listed(columns, 20)}."
