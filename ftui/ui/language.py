"""Every string of the page, English and Spanish. English is the key: what the code says is what the page says.

Labels that never change are translated in the browser (`say`); what the server writes later is translated there
(`Voice`), in the language that the browser asked for.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from functools import cache

import gradio as gr

from ftui.ui.sentences import SENTENCES, WORDS
from ftui.ui.spanish import SPANISH

BLANK = r"{(\w+)}"
NESTED = ("where", "reason", "rows", "error")
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"


def _in_spanish(sentence: str) -> str:
    """What the core said, blanks filled as it filled them."""
    if sentence in SPANISH:
        return SPANISH[sentence]
    for pattern, spanish in _patterns():
        if found := pattern.fullmatch(sentence):
            blanks = {name: _in_spanish(said) if name in NESTED else said for name, said in found.groupdict().items()}
            return spanish.format(**blanks)
    return sentence


@cache
def _patterns() -> list[tuple[re.Pattern[str], str]]:
    """Those with the most words of their own first, so that none is taken for a shorter one."""
    known = {**SPANISH, **SENTENCES, **WORDS}
    with_most_words = sorted(known, key=lambda english: -len(re.sub(BLANK, "", english)))
    return [(re.compile(_as_pattern(english), re.DOTALL), known[english]) for english in with_most_words]


def _as_pattern(english: str) -> str:
    *parts, end = re.split(BLANK, english)
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return "".join(f"{re.escape(words)}(?P<{name}>.*?)" for words, name in pairs) + re.escape(end)


def say(english: str) -> object:
    """A label in the language of the browser that shows it."""
    return gr.I18n()(_key(english))


def catalogue() -> gr.I18n:
    """The translations that the browser gets."""
    return gr.I18n(
        en={_key(text): text for text in SPANISH}, es={_key(text): spanish for text, spanish in SPANISH.items()}
    )


def _key(english: str) -> str:
    if english not in SPANISH:
        raise KeyError(f"ui/language.py has no Spanish for {english!r}")
    return "ftui" + hashlib.sha1(english.encode()).hexdigest()[:10]


class Voice:
    """What the server writes into the page, in the language that a request asked for."""

    def __init__(self, request: gr.Request | None) -> None:
        asked = request.headers.get("accept-language", "") if request else ""
        self.spanish = asked.lower().startswith("es")

    @classmethod
    def of(cls, spanish: bool) -> Voice:
        voice = cls(None)
        voice.spanish = spanish
        return voice

    def __call__(self, english: str, **values: object) -> str:
        return (SPANISH[english] if self.spanish else english).format(**values)

    def known(self, sentence: str) -> str:
        """A sentence that the core wrote, translated where it is known. Mistakes that were joined are told apart."""
        if not self.spanish:
            return sentence
        return " · ".join(_in_spanish(mistake) for mistake in sentence.split(" · "))

    def day(self, when: str) -> str:
        """A time, ISO 8601, as people write it: 21 Nov 13:17."""
        time = datetime.fromisoformat(when)
        months = "ene feb mar abr may jun jul ago sep oct nov dic" if self.spanish else MONTHS
        return f"{time.day} {months.split()[time.month - 1]} {time:%H:%M}"

    def number(self, value: float, decimals: int = 0) -> str:
        text = f"{value:,.{decimals}f}"
        return text.translate(str.maketrans(",.", ".,")) if self.spanish else text
