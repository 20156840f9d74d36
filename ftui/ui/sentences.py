"""What the core said, in Spanish. The core knows no language: its sentence is known again by its own words.

A key of SENTENCES and WORDS is the format string that the core filled, with a name for each blank. What the name means:
`words` and `others` hold words of the core, which must be known; `reason`, `rows`, `error` and `more` hold a sentence of
the core, translated where it is known; any other holds a value, which stays. What is not known stays English.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from string import Formatter
from typing import NamedTuple

from ftui.ui.spanish import SENTENCES, SPANISH, WORDS

KNOWN_WORDS = ("words", "others")
INNER = ("reason", "rows", "error", "more")
# What is measured: 0.5 is 0,5 in Spanish.
MEASURES = ("gb", "mb", "disk", "needed", "free", "before", "after", "cost", "speed", "share", "same", "mean", "hours")
NUMBER = r"\d(?:[\d.,]*\d)?%?|nan|inf"
SHAPES = {
    "key": r"[a-z][\w./-]*|[\w.-]+/[\w.-]+",
    "value": rf"{NUMBER}|True|False",
    "run": r"[\w-]+",
    "suffix": r"\.\w+",
    "more": r"(?:[^.].*?)?",
    "choice": r"[^']*",
    **dict.fromkeys(("count", "number", *MEASURES), NUMBER),
}
QUOTED = r"[^”]*"
FIRST = r"(?:(?![.:] ).)*?"  # what begins a sentence does not swallow the one before
ANY = r".*?"
LONGEST, DEEPEST = 1200, 12  # what is longer, or holds more within each other, was not said by the core alone
BETWEEN = re.compile(r"(?<=[.?!…])\s+(?=\S)")
AND = re.compile(r" y (?=h?i(?![aeou]))", re.IGNORECASE)  # español e inglés, but agua y hielo
COMMAS = str.maketrans(",.", ".,")


class Known(NamedTuple):
    """`mark`: the longest piece that every such sentence contains, which is quicker to look for than the whole pattern."""

    mark: str
    pattern: re.Pattern[str]
    spanish: str


@lru_cache(maxsize=4096)  # a log is drawn again with every new line
def in_spanish(said: str, depth: int = 0) -> str:
    """The sentences that the core said, one after another, each translated if it is known."""
    bare = said.strip()
    if said != bare:
        return said.replace(bare, in_spanish(bare, depth), 1)
    if (whole := _whole(said, depth)) is not None:
        return whole
    gaps = [gap.span() for gap in BETWEEN.finditer(said)][:DEEPEST]
    for end, start in reversed(gaps):
        if (head := _whole(said[:end], depth)) is not None:
            return head + said[end:start] + in_spanish(said[start:], depth + 1)
    return said[: gaps[0][1]] + in_spanish(said[gaps[0][1] :], depth + 1) if gaps else said


@lru_cache(maxsize=4096)
def _whole(said: str, depth: int) -> str | None:
    """All of it as one known sentence; None where there is none. What has no letters needs no translation."""
    if said in SPANISH or not re.search(r"[^\W\d_]", said):
        return SPANISH.get(said, said)
    if len(said) > LONGEST or depth > DEEPEST:
        return None
    for mark, pattern, spanish in _known():
        if mark in said and (found := pattern.fullmatch(said)):
            blanks = {name: _inside(name, value, depth + 1) for name, value in found.groupdict().items()}
            if None not in blanks.values():
                filled = spanish.format(**blanks)
                return AND.sub(" e ", filled) if " y {" in spanish else filled
    return None


def _inside(name: str, value: str, depth: int) -> str | None:
    if name in MEASURES or re.fullmatch(r"\d{1,3}(,\d{3})+", value):
        return value.translate(COMMAS)
    if name in KNOWN_WORDS:
        return _whole(value, depth)
    return in_spanish(value, depth) if name in INNER else value


@cache
def _known() -> list[Known]:
    """Those with the most words of their own first, so that none is taken for a shorter one."""
    keys = {**SENTENCES, **WORDS}
    own = {english: [words for words, *_ in Formatter().parse(english) if words] for english in keys}
    with_most = sorted(keys, key=lambda english: -len("".join(own[english])))
    return [
        Known(max(own[english], key=len, default="").rstrip("."), _pattern(english), _ended(keys[english]))
        for english in with_most
    ]


def _pattern(english: str) -> re.Pattern[str]:
    """The full stop may be missing, for a reason stands within a sentence as well as alone."""
    written, seen = "", set()
    for words, name, *_ in Formatter().parse(english.removesuffix(".")):
        written += re.escape(words)
        if name in seen:
            written += f"(?P={name})"
        elif name:
            usual = QUOTED if words.endswith("“") else ANY if written or name == "reason" else FIRST
            written += f"(?P<{name}>{SHAPES.get(name, usual)})"
            seen.add(name)
    return re.compile(rf"{written}(?P<end>\.?)", re.DOTALL)


def _ended(spanish: str) -> str:
    return spanish.removesuffix(".") + "{end}"
