"""A conversation in any known dress -> messages as OpenAI writes them: `{"role", "content", ...}`.

Dresses: OpenAI chat (parts, weights, names, tool calls, the older functions), Gemini's `parts`, ShareGPT with its cousins
(`from` and `value`, roles by many names), pairs of question and answer, texts in turn, and one text with marks (`### Human:`).
What cannot be read without guessing is a UserError that names the turn.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from ftui.errors import UserError
from ftui.template.placeholders import parsed
from ftui.template.written import written_turns

ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "chatgpt", "bing", "bot", "chatbot", "ai"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "function_response", "tool_response"), "tool"),
    **dict.fromkeys(("function_call", "tool_call"), "call"),
}
_ROLE_KEYS = ("role", "from")
CONTENT_KEYS = ("content", "value", "parts")
_REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
_WEIGHT_KEYS = ("weight", "train", "loss_weight")
_PAIR_KEYS = (
    ("user", "assistant"),
    ("human", "assistant"),
    ("question", "answer"),
    ("prompt", "response"),
    ("input", "output"),
)


def is_conversation(value: object) -> bool:
    """A non-empty list of turns or of pairs, perhaps as JSON or as Python writes it, or a text in which both sides speak."""
    if isinstance(value, str):
        if written_turns(value):
            return True
        if not value.lstrip().startswith(("[", "{")):
            return False
        try:
            value = parsed(value, "", "")
        except UserError:
            return False
    value = value.get("messages") if isinstance(value, dict) else value
    return isinstance(value, list) and bool(value) and all(_is_turn(turn) or _pair_of(turn) for turn in value)


def are_alternating(value: object) -> bool:
    """Texts of user and assistant in turn. Only the column's name can say that they are no mere list."""
    return isinstance(value, list) and len(value) > 1 and len(value) % 2 == 0 and all(isinstance(e, str) for e in value)


def _is_turn(value: object) -> bool:
    return isinstance(value, dict) and any(isinstance(value.get(key), str) for key in _ROLE_KEYS)


def turns_of(value: object, column: str) -> object:
    """What a cell holds of turns, in whichever form, as a list of role and content where that can be told.

    UserError where it is text without turns. The turns themselves may still be anything.
    """
    if isinstance(value, str) and (turns := written_turns(value)):
        return turns
    turns = parsed(value, "The template", column)
    if isinstance(turns, dict):
        turns = turns.get("messages")
    if are_alternating(turns):
        return [_said(("user", "assistant")[place % 2], text) for place, text in enumerate(turns)]
    if isinstance(turns, list) and turns and all(pairs := [_pair_of(turn) for turn in turns]):
        return [_said(role, text) for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True)]
    return turns


def _pair_of(turn: object) -> tuple[str, str] | None:
    """`["question", "answer"]`, or an object that has just the two sides."""
    if isinstance(turn, list | tuple):
        return tuple(turn) if len(turn) == 2 and all(isinstance(each, str) for each in turn) else None
    if not isinstance(turn, dict) or _is_turn(turn):
        return None
    keys = next((keys for keys in _PAIR_KEYS if all(isinstance(turn.get(key), str) for key in keys)), None)
    return (turn[keys[0]], turn[keys[1]]) if keys else None


def _said(role: str, content: str) -> dict:
    return {"role": role, "content": content}


def read_history(value: object, column: str) -> list[dict]:
    """Earlier turns in a cell; none where it is empty."""
    return read_conversation(value, column) if value and value not in ("[]", "null") else []


def read_conversation(value: object, column: str) -> list[dict]:
    """The messages in a cell. UserError names the turn that cannot be read."""
    turns = turns_of(value, column)
    if not isinstance(turns, list) or not turns:
        raise UserError(
            f"Column “{column}” holds no conversation: it must be a list of messages with a role and content."
        )
    messages = []
    for number, turn in enumerate(turns, 1):
        try:
            messages.extend(read_turn(turn))
        except UserError as error:
            raise UserError(f"Turn {number} in column “{column}” {error}") from None
    return messages


def read_turn(turn: object) -> Iterator[dict]:
    """The message of a turn, or nothing for an empty system turn. The UserError is the rest of a sentence: `has no role.`"""
    if not isinstance(turn, dict):
        raise UserError("is not an object with a role and content.")
    role = _role(turn)
    content, reasoning = _content(_first(turn, CONTENT_KEYS), role)
    calls = list(_calls(turn, role, content))
    message: dict = {"role": "assistant" if calls else role, "content": "" if role == "call" else content}
    if reasoning := reasoning or _first(turn, _REASONING_KEYS):
        message["reasoning_content"] = str(reasoning)
    if calls:
        message["tool_calls"] = calls
    elif not content.strip() and role in ("user", "assistant"):
        raise UserError(f"({role}) is empty. Fill it or leave the row out.")
    elif not content.strip() and role == "system":
        return
    message |= {key: turn[key] for key in ("name", "tool_call_id") if isinstance(turn.get(key), str)}
    if message["role"] == "assistant" and (weight := _weight_of(turn)) is not None:
        message["weight"] = weight
    yield message


def _first(turn: dict, keys: tuple[str, ...]) -> object:
    return next((turn[key] for key in keys if turn.get(key) is not None), None)


def _role(turn: dict) -> str:
    role = _first(turn, _ROLE_KEYS)
    if not isinstance(role, str):
        raise UserError("has no role. Every turn needs “role” (or “from”).")
    if role.strip().lower() not in ROLES:
        raise UserError(f"has the unknown role “{role[:40]}”. Known roles: {', '.join(ROLES)}.")
    return ROLES[role.strip().lower()]


def _content(content: object, role: str) -> tuple[str, str]:
    """Text and reasoning of a content: a string, nothing, or a list of parts."""
    if content is None or isinstance(content, str):
        return content or "", ""
    if role != "call" and are_parts(content):
        parts = [(part.get("type"), _part(part)) for part in content]
        return tuple(
            "".join(text for kind, text in parts if (kind == "reasoning") is wanted) for wanted in (False, True)
        )
    if role in ("tool", "call"):
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")), ""
    raise UserError(f"({role}) has content that is neither text nor a list of text parts.")


def are_parts(content: object) -> bool:
    """A list of parts that say their type, or, as Gemini's, only their text."""
    return isinstance(content, list) and all(
        isinstance(part, dict) and part.keys() & {"type", "text"} for part in content
    )


def _part(part: dict) -> str:
    text = _first(part, ("text", "value", "reasoning"))
    if part.get("type", "text") not in ("text", "reasoning"):
        raise UserError(f"holds a part of type “{part['type']}”. ftui trains on text only: leave such rows out.")
    if not isinstance(text, str):
        raise UserError("has a text part without text.")
    return text


def _calls(turn: dict, role: str, content: str) -> Iterator[dict]:
    if role == "call":
        calls = _json(content, "is a function call, but its value is not JSON.")
    elif turn.get("function_call"):
        calls = turn["function_call"]
    else:
        calls = turn.get("tool_calls") or []
    for call in calls if isinstance(calls, list) else [calls]:
        if not isinstance(call, dict):
            raise UserError("has a tool call that is not an object.")
        function = call.get("function", call)
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise UserError("has a tool call without a function name.")
        arguments = function.get("arguments") or function.get("parameters") or {}
        if isinstance(arguments, str):
            arguments = _json(arguments, f"calls “{function['name']}” with arguments that are not JSON.")
        if not isinstance(arguments, dict):
            raise UserError(f"calls “{function['name']}” with arguments that are not an object.")
        own_id = {"id": call["id"]} if isinstance(call.get("id"), str) else {}
        yield {**own_id, "type": "function", "function": {"name": function["name"], "arguments": arguments}}


def _json(text: str, sentence: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise UserError(sentence) from None


def _weight_of(turn: dict) -> int | None:
    """What the turn says of itself, or what all parts of its content say of themselves."""
    own, content = _first(turn, _WEIGHT_KEYS), _first(turn, CONTENT_KEYS)
    parts = [_first(part, _WEIGHT_KEYS) for part in content] if isinstance(content, list) else []
    weights = {1 if weight is None else _weight(weight) for weight in parts}
    if len(weights) > 1:
        raise UserError("has parts that are learned beside parts that are not. Make turns of their own of them.")
    return _weight(own) if own is not None else 0 if weights == {0} else None


def _weight(weight: object) -> int:
    if weight not in (0, 1):
        raise UserError(f"has the weight {weight!r}. A weight is 0 (not learned) or 1.")
    return int(weight)


def read_tools(value: object, column: str) -> list[dict]:
    """The tools in a cell, each as `{"type": "function", "function": {...}}`; an empty list where there are none."""
    if isinstance(value, str):
        value = _json(value, f"Column “{column}” holds tools that are not JSON.") if value.strip() else None
    tools = [] if value is None else value
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise UserError(f"Column “{column}” must hold a list of tools.")
    wrapped = [
        tool if isinstance(tool.get("function"), dict) else {"type": "function", "function": tool} for tool in tools
    ]
    for number, tool in enumerate(wrapped, 1):
        if not isinstance(tool["function"].get("name"), str):
            raise UserError(f"Tool {number} in column “{column}” has no name.")
    return wrapped
