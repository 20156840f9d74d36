"""The shape of rows: lines that cannot be read, empty fields, and conversations as OpenAI's own checker judges them.

The seven categories of OpenAI's data preparation keep their names, with the wider lists of roles and keys that ftui reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ftui.dataset import Rows
from ftui.doctor.preference import Pairs
from ftui.doctor.problem import Fix, Problem, error, leave_out, mend, some_rows, warning
from ftui.doctor.survey import Mark, Survey
from ftui.errors import UserError, listed
from ftui.examples import Example, Examples, LeftOut
from ftui.template import PromptTemplate
from ftui.template.columns import Columns, as_verdict
from ftui.template.conversation import CONTENT_KEYS, ROLES, are_parts, turns_of
from ftui.template.placeholders import Placeholder, as_text, column_of, lookup, parse

_KEYS = {
    "role", "from", *CONTENT_KEYS, "name", "weight", "train", "loss_weight", "function_call", "tool_calls",
    "tool_call_id", "reasoning_content", "reasoning", "thinking", "refusal",
}  # fmt: skip

# How a call stands in the text of an answer: Hermes, glaive, ToolACE.
_WRITTEN_CALL = re.compile(r"<\w*(?:call|function)\w*>|\A\s*[\[{]")

# What is said of the rows, and what the fix that leaves them out calls it.
_SENTENCES = {
    "data_type": (
        "{rows}: a row or a turn is not an object. Each turn must be an object with a role and content.",
        "no object",
    ),
    "missing_messages_list": (
        "{rows}: there is no list of messages. Fill the column or leave such rows out.",
        "no messages",
    ),
    "message_missing_key": ("{rows}: a message lacks its role or its content. Add both.", "no role or content"),
    "unrecognized_role": (
        "{rows}: a message has an unknown role. Use system, user, assistant or tool.",
        "an unknown role",
    ),
    "missing_content": (
        "{rows}: the content of a message is neither text nor a tool call. Write text.",
        "content that is no text",
    ),
    "example_missing_assistant_message": (
        "{rows}: no message is from the assistant, so there is nothing to learn. Add the answer.",
        "no answer",
    ),
    "empty_turn": ("{rows}: a turn is empty and calls no tool. Fill it or leave such rows out.", "an empty turn"),
}


_LEFT_OUT = {
    "unfilled": (
        "empty_field",
        "{rows}: the prompt, the completion or the text is empty. Fill it or leave such rows out.",
        "an empty field",
    ),
    "render_failure": (
        "render_failure",
        "The chat template cannot write {rows}. First reason: ",
        "what the chat template cannot write",
    ),
    "nothing_trainable": ("nothing_trainable", "Nothing is learned from {rows}. First reason: ", "nothing is learned"),
    "other": ("unusable_row", "The template cannot use {rows}. First reason: ", "what the template cannot use"),
}


def look_at_shape(template: PromptTemplate, rows: Rows, examples: Examples, survey: Survey) -> Iterator[Problem]:
    yield from _unreadable(examples)
    cells = _Cells(template, rows, {left.row for left in examples.left_out})
    for number, row in enumerate(rows):
        cells.look(number, row)
    for code, (sentence, why) in _SENTENCES.items():
        found = cells.found.get(code, [])
        yield from error(code, found, sentence, leave_out(rows, found, why))
    yield from _unrecognized(rows, cells)
    told = {number for code in _SENTENCES for number in cells.found.get(code, [])}
    yield from _left_out(rows, [left for left in examples.left_out if left.row not in told])
    yield from _empty(rows, cells, len(survey))
    yield from _unwanted(rows, cells)
    if cells.pairs:
        yield from cells.pairs.problems(rows)
    if template.messages:
        yield from _roles(template, rows, survey)


def _unreadable(examples: Examples) -> Iterator[Problem]:
    odd = [broken for broken in examples.broken if "a row must be an object" in broken.reason]
    rest = [broken for broken in examples.broken if broken not in odd]
    for code, broken in (("unreadable_line", rest), ("data_type", odd)):
        which = some_rows([each.number - 1 for each in broken], "line")
        sentence = f"{which}: cannot be read, so left out. First: {broken[0]}" if broken else ""
        yield from error(code, [each.number for each in broken], sentence)


def _left_out(rows: Rows, left: list[LeftOut]) -> Iterator[Problem]:
    """Rows that cannot be used for reasons of their own: an empty cell, the chat template, the mask, an unreadable call."""
    by_code: dict[str, list[LeftOut]] = {}
    for each in left:
        by_code.setdefault(each.code, []).append(each)
    for code, (name, sentence, why) in _LEFT_OUT.items():
        found = by_code.get(code, [])
        numbers = [each.row for each in found]
        if sentence.endswith(": ") and found:
            sentence += found[0].reason.rstrip(".") + "."
        yield from error(name, numbers, sentence, leave_out(rows, numbers, why))


# cells


class _Cells:
    """One pass over the rows as they are in the data: empty cells, conversations, and answers that nobody wants."""

    def __init__(self, template: PromptTemplate, rows: Rows, left_out: set[int]) -> None:
        self.template, self.left_out = template, left_out
        self.names = dict.fromkeys(_outside_blocks(template.prompt) + _outside_blocks(template.completion))
        columns = Columns(rows.columns, rows.head(20))
        used = {column_of(name, rows.columns) for name in template.columns}
        self.verdict = columns.verdict if columns.verdict not in used and not template.text else None
        self.pairs = Pairs(columns.sides) if columns.sides and columns.sides[0] in used else None
        self.found: dict[str, list[int]] = {}
        self.empty: dict[str, list[int]] = {}

    def look(self, number: int, row: dict[str, object]) -> None:
        if self.template.messages:
            for code in _codes(_turns(row, self.template.messages), self.template):
                self._mark(code, number)
        if number not in self.left_out:
            for name in self.names:
                if _is_empty(row, name):
                    self.empty.setdefault(name, []).append(number)
        if self.verdict and as_verdict(row[self.verdict]) is False:
            self._mark("unwanted_answers", number)
        if self.pairs:
            self.pairs.look(number, row)

    def _mark(self, code: str, number: int) -> None:
        self.found.setdefault(code, []).append(number)


def _outside_blocks(text: str) -> list[str]:
    return [piece.name for piece in parse(text) if isinstance(piece, Placeholder)]


def _is_empty(row: dict[str, object], name: str) -> bool:
    try:
        value = row[name] if name in row else lookup(row, name)
        return not (value if isinstance(value, str) else as_text(value)).strip()
    except UserError:
        return False


def _unrecognized(rows: Rows, cells: _Cells) -> Iterator[Problem]:
    numbers = cells.found.get("message_unrecognized_key", [])
    turns = [turn for row in rows.take(numbers[:100]) for turn in _turns(row, cells.template.messages)]
    keys = {key: None for turn in turns if isinstance(turn, dict) for key in turn if key not in _KEYS}
    unread = listed((f"“{key}”" for key in keys), 5)
    sentence = f"{{rows}}: a message has keys that nothing reads: {unread}. They are not learned."
    yield from warning("message_unrecognized_key", numbers, sentence)


def _empty(rows: Rows, cells: _Cells, used: int) -> Iterator[Problem]:
    """Columns that stand outside a [[block]] and are empty in rows that are used nevertheless."""
    if not cells.empty:
        return
    numbers = sorted({number for empty in cells.empty.values() for number in empty})
    name = max(cells.empty, key=lambda each: len(cells.empty[each]))
    columns = " and ".join(f"“{each}”" for each in cells.empty)
    say = error if any(len(empty) == used for empty in cells.empty.values()) else warning
    yield from say(
        "empty_placeholder",
        numbers,
        f"{{rows}}: {columns} is empty, and the text around it is learned nevertheless. "
        f"Write [[ … {{{{{name}}}}} … ]] to leave it out there.",
        leave_out(rows, numbers, "an empty column"),
    )


def _unwanted(rows: Rows, cells: _Cells) -> Iterator[Problem]:
    bad = cells.found.get("unwanted_answers", [])
    yield from error(
        "unwanted_answers",
        bad,
        f"{{rows}}: “{cells.verdict}” says that the answer, or a step of it, is not wanted, and it would be learned. Leave such rows out.",
        leave_out(rows, bad, "answers that are not wanted"),
    )


# conversations


def _turns(row: dict[str, object], column: str) -> object:
    try:
        return turns_of(lookup(row, column), column)
    except UserError:
        return None


def _codes(turns: object, template: PromptTemplate) -> set[str]:
    if not isinstance(turns, list) or not turns:
        return {"missing_messages_list"}
    codes = {code for turn in turns for code in _turn_codes(turn)}
    roles = {_role(turn) for turn in turns}
    if not roles & {"assistant", "call"} and not template.completion.strip() and not codes:
        codes.add("example_missing_assistant_message")
    return codes


def _role(turn: object) -> str | None:
    said = (turn.get("role") or turn.get("from")) if isinstance(turn, dict) else None
    return ROLES.get(said.strip().lower()) if isinstance(said, str) else None


def _turn_codes(turn: object) -> Iterator[str]:
    if not isinstance(turn, dict):
        yield "data_type"
        return
    if turn.keys() - _KEYS:
        yield "message_unrecognized_key"
    calls = turn.get("tool_calls") or turn.get("function_call")
    has_content = turn.keys() & set(CONTENT_KEYS)
    if not turn.keys() & {"role", "from"} or not (has_content or calls):
        yield "message_missing_key"
        return
    role = _role(turn)
    if role is None:
        yield "unrecognized_role"
    content = next((turn[key] for key in CONTENT_KEYS if turn.get(key) is not None), None)
    if isinstance(content, str):
        if not content.strip() and not calls and role in ("user", "assistant"):
            yield "empty_turn"
    elif not calls and role not in ("tool", "call") and not are_parts(content):
        yield "missing_content"


def roles_of(batch: Sequence[Example]) -> Iterator[Mark]:
    """The look at who speaks when."""
    for row, messages, _ in batch:
        roles = {message["role"] for message in messages}
        if not _in_order(messages):
            yield "out_of_order", row
        if messages[-1]["role"] != "assistant":
            yield "unanswered", row
        if "user" not in roles:
            yield "no_user", row
        if "system" not in roles:
            yield "no_system", row


def _roles(template: PromptTemplate, rows: Rows, survey: Survey) -> Iterator[Problem]:
    wrong, unanswered, no_user, no_system = (
        survey.marks.get(mark, []) for mark in ("out_of_order", "unanswered", "no_user", "no_system")
    )
    yield from warning(
        "wrong_role_order",
        wrong,
        "{rows}: the roles do not take turns as system, user, assistant. Check for turns that are missing or split in two.",
        leave_out(rows, wrong, "roles out of turn"),
    )
    yield from warning(
        "last_not_assistant",
        unanswered,
        "{rows}: the last message is not from the assistant, so what is said there is not learned. Cut it off.",
        _cut_tail(template, rows, unanswered),
    )
    yield from warning(
        "missing_user", no_user, "{rows}: no message is from the user. In a chat there will always be one."
    )
    if len(no_system) < 0.2 * len(survey):  # where half have one, that is how the data is meant
        yield from warning(
            "missing_system",
            no_system,
            "{rows}: there is no system message, though nearly all other rows have one. Add it.",
        )


def _in_order(messages: list[dict]) -> bool:
    before = "start"
    for message in messages:
        role = message["role"]
        expected = {
            "start": ("system", "user"),
            "system": ("user",),
            "user": ("assistant",),
            "assistant": ("user",),
            "call": ("tool",),
            "written": ("tool", "user"),
            "tool": ("tool", "assistant"),
        }[before]
        if role not in expected:
            return False
        is_written = role == "assistant" and _WRITTEN_CALL.search(message["content"])
        before = "call" if message.get("tool_calls") else "written" if is_written else role
    return True


def _cut_tail(template: PromptTemplate, rows: Rows, numbers: list[int]) -> Fix | None:
    column = template.messages
    if column not in rows.columns:
        return None

    def cut(row: dict[str, object]) -> dict[str, object]:
        turns = _turns(row, column)
        if not isinstance(turns, list):
            return row
        end = max((place for place, turn in enumerate(turns, 1) if _role(turn) in ("assistant", "call")), default=0)
        return {**row, column: turns[:end]} if 0 < end < len(turns) else row

    return mend(rows, numbers, "Cut off what follows the last answer", cut)
