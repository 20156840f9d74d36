"""What should have been filled in before the data was given away: “I am {{name}}”. A model learns to say just that."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from ftui.dataset import Rows
from ftui.doctor.problem import Problem, leave_out_few, warning
from ftui.doctor.survey import Mark, Survey
from ftui.encoding import Message
from ftui.examples import Example

_UNFILLED = "unfilled: "
_SHOWN = 4
_MASKED = 0.2  # of the rows; where more say [NAME], names are masked on purpose

_BRACED = r"(?<![A-Za-z0-9_\\^$}{])\{\{ ?[^\W\d_][\w -]{1,30}?\}\}(?![{}])"
_INVITING = r"[\[<](?:[Yy]our|YOUR|[Ii]nsert|INSERT|[Ee]nter) [^\]>\n]{2,40}[\]>]"
_CAPITALS = r"[\[<](?:[A-Z]{2,12}[ _])?(?:NAME|EMAIL|COMPANY|AUTHOR)[\]>]"
_PLACEHOLDER = re.compile(f"{_BRACED}|{_INVITING}|{_CAPITALS}")
# Code, JSON and the templates of Jinja, Handlebars and Vue, where braces are what is meant.
_CODE = re.compile(r"```|\{%|\{\{[#/>^!&]|\{\{[^}]*[.|('\"][^}]*\}\}|</|=>|^\s*(?:\{(?!\{)|\[[{\[\"\d]|<[a-z!?])")
_ASKED_FOR = re.compile(
    r"template|place-?holder|plantilla|marcador|vorlage|platzhalter|jinja|handlebars|mustache", re.I
)


def unfilled_of(batch: Sequence[Example]) -> Iterator[Mark]:
    """The look at placeholders in answers, but for those that the prompt holds or asks for."""
    for row, messages, _ in batch:
        for name in _names(messages):
            yield _UNFILLED + name, row


def _names(messages: list[Message]) -> set[str]:
    answers = [message.get("content") or "" for message in messages if message["role"] == "assistant"]
    found = {
        name for text in answers if "{{" in text or "[" in text or "<" in text for name in _PLACEHOLDER.findall(text)
    }
    if not found or any(map(_CODE.search, answers)):
        return set()
    asked = "\n".join(message.get("content") or "" for message in messages if message["role"] != "assistant")
    return set() if _ASKED_FOR.search(asked) else {name for name in found if name not in asked}


def look_at_unfilled(rows: Rows, survey: Survey) -> Iterator[Problem]:
    marked = {mark.removeprefix(_UNFILLED): found for mark, found in survey.marks.items() if mark.startswith(_UNFILLED)}
    counts = Counter({name: len(found) for name, found in marked.items() if not _is_mask(name, len(found), survey)})
    numbers = sorted({number for name in counts for number in marked[name]})
    listed = ", ".join(f"“{name}”" for name, _ in counts.most_common(_SHOWN))
    yield from warning(
        "unfilled_placeholder",
        numbers,
        f"{{rows}}: the answer has a place that nobody filled in ({listed}), so the model learns to say that. Write the real words there.",
        leave_out_few(rows, numbers, "a place that nobody filled in"),
    )


def _is_mask(name: str, count: int, survey: Survey) -> bool:
    return bool(re.fullmatch(_CAPITALS, name)) and count > _MASKED * len(survey)
