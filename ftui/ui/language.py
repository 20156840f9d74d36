"""Every string of the page, English and Spanish. English is the key: what the code says is what the page says.

Labels that never change are translated in the browser (`say`); what the server writes later is translated there
(`Voice`), in the language that the browser asked for.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime

import gradio as gr

from ftui.config import RunConfig
from ftui.errors import UserError
from ftui.ui.sentences import in_spanish
from ftui.ui.spanish import SPANISH

SETTING = re.compile(r"(?:^|(?<= · ))(?P<section>[a-z]+)\.(?P<name>\w+)(?=: )")  # where a mistake in the form begins
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"


# Gradio 6.31 asks for these and has no words for them in any language.
MISSING = {"common.upload": "Files", "common.complete": "Done"}


def say(english: str) -> object:
    """A label in the language of the browser that shows it."""
    return gr.I18n()(_key(english))


def catalog() -> gr.I18n:
    """The translations that the browser gets."""
    english = {_key(text): text for text in SPANISH} | MISSING
    spanish = {_key(text): spanish for text, spanish in SPANISH.items()}
    return gr.I18n(en=english, es=spanish | {key: SPANISH[text] for key, text in MISSING.items()})


def _key(english: str) -> str:
    if english not in SPANISH:
        raise KeyError(f"ui/spanish has no Spanish for {english!r}")
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
        return " · ".join(in_spanish(mistake) for mistake in sentence.split(" · "))

    def mistakes(self, error: UserError) -> str:
        """An error as the page tells it: settings also by the labels of their boxes, which is what a person looks for."""
        return SETTING.sub(self._labeled, self.known(str(error)))

    def _labeled(self, setting: re.Match[str]) -> str:
        section = RunConfig.model_fields.get(setting["section"])
        field = getattr(section.annotation, "model_fields", {}).get(setting["name"]) if section else None
        return f"{self(field.title)} ({setting[0]})" if field and field.title in SPANISH else setting[0]

    def day(self, when: str) -> str:
        """A time, ISO 8601, as people write it: 21 Nov 13:17."""
        time = datetime.fromisoformat(when)
        months = "ene feb mar abr may jun jul ago sep oct nov dic" if self.spanish else MONTHS
        return f"{time.day} {months.split()[time.month - 1]} {time:%H:%M}"

    def duration(self, seconds: float) -> str:
        """As people write it, which is the same in both languages: 2 min 05 s."""
        minutes, seconds = divmod(int(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"

    def number(self, value: float, decimals: int = 0) -> str:
        text = f"{value:,.{decimals}f}"
        return text.translate(str.maketrans(",.", ".,")) if self.spanish else text
