"""The shape of rows: lines that cannot be read, empty fields, and conversations as OpenAI's own checker judges them.

The seven categories of OpenAI's data preparation keep their names, with the wider lists of roles and keys that ftui reads.
"""

from __future__ import annotations

from collections.abc import Iterator

from ftui.dataset import Rows
from ftui.doctor.problem import Fix, Problem, error, leave_out, mend, some_rows, warning
from ftui.errors import UserError
from ftui.examples import Examples, LeftOut
from ftui.template import PromptTemplate
from ftui.template.conversation import ROLES
from ftui.template.placeholders import Placeholder, as_text, fill, lookup, parse, parsed

_KEYS = {
    "role", "from", "content", "value", "name", "weight", "train", "loss_weight", "function_call", "tool_calls",
    "tool_call_id", "reasoning_content", "reasoning", "thinking", "refusal",
}  # fmt: skip

_SENTENCES = {
    "data_type": "{rows}: a row or a turn is no object. Each turn must be an object with a role and content.",
    "missing_messages_list": "{rows}: there is no list of messages. Fill the column or leave the rows out.",
    "message_missing_key": "{rows}: a message lacks its role or its content. Add both.",
    "unrecognized_role": "{rows}: a message has an unknown role. Use system, user, assistant or tool.",
    "missing_content": "{rows}: the content of a message is neither text nor a tool call. Write text.",
    "example_missing_assistant_message": "{rows}: no message is from the assistant, so there is nothing to learn. Add the answer.",
    "empty_turn": "{rows}: a turn is empty and calls no tool. Fill it or leave the rows out.",
}


def look_at_shape(template: PromptTemplate, rows: Rows, examples: Examples) -> Iterator[Problem]:
    yield from _unreadable(examples)
    codes = _conversations(template, rows) if template.messages else {}
    for code, sentence in _SENTENCES.items():
        yield from error(code, codes.get(code, []), sentence, leave_out(rows, codes.get(code, [])))
    unknown = codes.get("message_unrecognized_key", [])
    yield from warning(
        "message_unrecognized_key", unknown, "{rows}: a message has keys that nothing reads. They are not learned."
    )
    left = examples.left_out
    unfilled = [each.row for each in left if each.row < len(rows) and _is_unfilled(template, rows[each.row])]
    yield from error(
        "empty_field",
        unfilled,
        "{rows}: the prompt, the completion or the text is empty. Fill it or leave the rows out.",
        leave_out(rows, unfilled),
    )
    told = {number for code in _SENTENCES for number in codes.get(code, [])} | set(unfilled)
    yield from _unusable(rows, [each for each in left if each.row not in told])
    yield from _unfilled_placeholders(template, rows, {each.row for each in left})
    yield from _roles(template, rows, examples)


def _unreadable(examples: Examples) -> Iterator[Problem]:
    odd = [broken for broken in examples.broken if "a row must be an object" in broken.reason]
    rest = [broken for broken in examples.broken if broken not in odd]
    for code, broken in (("unreadable_line", rest), ("data_type", odd)):
        which = some_rows([each.number - 1 for each in broken], "line")
        sentence = f"{which} cannot be read and are left out. First: {broken[0]}" if broken else ""
        yield from error(code, [each.number for each in broken], sentence)


def _unusable(rows: Rows, left: list[LeftOut]) -> Iterator[Problem]:
    """Rows left out for reasons of their own: the chat template, the mask, a tool call that cannot be read."""
    for code, sentence in (
        ("render_failure", "The chat template cannot write {rows}"),
        ("nothing_trainable", "Nothing is learned from {rows}"),
        ("unusable_row", "The template cannot use {rows}"),
    ):
        reasons = {each.row: each.reason for each in left if each.code == code}
        first = f". First reason: {next(iter(reasons.values())).rstrip('.')}." if reasons else ""
        yield from error(code, list(reasons), sentence + first, leave_out(rows, reasons))


def _is_unfilled(template: PromptTemplate, row: dict[str, object]) -> bool:
    if template.messages:
        return False
    parts = [template.text if parsed_names(template.text) else "{{" + template.text + "}}"] if template.text else []
    try:
        return any(not fill(part, row).strip() for part in parts or (template.prompt, template.completion))
    except UserError:
        return False


def parsed_names(text: str) -> list[str]:
    return [piece.name for piece in parse(text) if isinstance(piece, Placeholder)]


def _unfilled_placeholders(template: PromptTemplate, rows: Rows, left_out: set[int]) -> Iterator[Problem]:
    """Columns that stand outside a [[block]] and are empty in rows that are used nevertheless."""
    for name in dict.fromkeys(parsed_names(template.prompt) + parsed_names(template.completion)):
        empty = []
        for number, row in enumerate(rows):
            try:
                value = row[name] if name in row else lookup(row, name)
                if not as_text(value).strip() and number not in left_out:
                    empty.append(number)
            except UserError:
                continue
        yield from warning(
            "empty_placeholder",
            empty,
            f"“{name}” is empty in {{rows}}, and the text around it is learned nevertheless. "
            f"Write [[ … {{{{{name}}}}} … ]] to leave it away there.",
            leave_out(rows, empty),
        )


# conversations


def _conversations(template: PromptTemplate, rows: Rows) -> dict[str, list[int]]:
    """Row numbers by code."""
    assert template.messages
    found: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        try:
            turns = parsed(lookup(row, template.messages), "", template.messages)
        except UserError:
            turns = None
        for code in _codes(turns, template):
            found.setdefault(code, []).append(number)
    return found


def _codes(turns: object, template: PromptTemplate) -> set[str]:
    turns = turns.get("messages") if isinstance(turns, dict) else turns
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
    has_content = turn.keys() & {"content", "value"}
    if not turn.keys() & {"role", "from"} or not (has_content or calls):
        yield "message_missing_key"
        return
    role = _role(turn)
    if role is None:
        yield "unrecognized_role"
    content = turn.get("content") if turn.get("content") is not None else turn.get("value")
    if isinstance(content, str):
        if not content.strip() and not calls and role in ("user", "assistant"):
            yield "empty_turn"
    elif not calls and role not in ("tool", "call") and not _is_parts(content):
        yield "missing_content"


def _is_parts(content: object) -> bool:
    return isinstance(content, list) and all(isinstance(part, dict) and "type" in part for part in content)


def _roles(template: PromptTemplate, rows: Rows, examples: Examples) -> Iterator[Problem]:
    if not template.messages:
        return
    messages = {example.row: example.messages for part in examples.parts.values() for example in part}
    roles = {number: [message["role"] for message in each] for number, each in messages.items()}
    wrong = [number for number, each in messages.items() if not _in_order(each)]
    yield from warning(
        "wrong_role_order",
        wrong,
        "{rows}: the roles do not take turns as system, user, assistant. Check for turns that are missing or split in two.",
        leave_out(rows, wrong),
    )
    unanswered = [number for number, each in roles.items() if each[-1] != "assistant"]
    yield from warning(
        "last_not_assistant",
        unanswered,
        "{rows}: the last message is not from the assistant, so what is said there is learned by nobody. Cut it off.",
        _cut_tail(template, rows, unanswered),
    )
    without = [number for number, each in roles.items() if "user" not in each]
    yield from warning(
        "missing_user", without, "{rows}: no message is from the user. In a chat there will always be one."
    )
    without = [number for number, each in roles.items() if "system" not in each]
    if len(without) < 0.2 * len(roles):  # where half have one, that is how the data is meant
        yield from warning(
            "missing_system",
            without,
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
            "tool": ("tool", "assistant"),
        }[before]
        if role not in expected:
            return False
        before = "call" if message.get("tool_calls") else role
    return True


def _cut_tail(template: PromptTemplate, rows: Rows, numbers: list[int]) -> Fix | None:
    column = template.messages
    if column not in rows.columns:
        return None

    def cut(row: dict[str, object]) -> dict[str, object]:
        turns = parsed(row[column], "", column)
        if not isinstance(turns, list):
            return row
        end = max((place for place, turn in enumerate(turns, 1) if _role(turn) in ("assistant", "call")), default=0)
        return {**row, column: turns[:end]} if 0 < end < len(turns) else row

    return mend(rows, numbers, "Cut off what follows the last answer", cut)
