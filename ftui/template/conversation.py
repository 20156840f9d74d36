"""A conversation in any known dress -> messages as OpenAI writes them: `{"role", "content", ...}`.

Dresses: OpenAI chat (parts, weights, names, tool calls, the older functions) and ShareGPT with its cousins (`from` and
`value`, roles by many names). What cannot be read without guessing is a UserError that names the turn.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from ftui.errors import UserError
from ftui.template.placeholders import parsed

ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human"), "user"),
    **dict.fromkeys(("assistant", "gpt", "model", "chatgpt", "bing", "bot"), "assistant"),
    **dict.fromkeys(("tool", "function", "observation", "function_response", "tool_response"), "tool"),
    **dict.fromkeys(("function_call", "tool_call"), "call"),
}
_ROLE_KEYS = ("role", "from")
_CONTENT_KEYS = ("content", "value")
_REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
_WEIGHT_KEYS = ("weight", "train", "loss_weight")


def is_conversation(value: object) -> bool:
    """A non-empty list of turns, perhaps written as JSON text."""
    if isinstance(value, str):
        if not value.lstrip().startswith(("[", "{")):
            return False
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return False
    value = value.get("messages") if isinstance(value, dict) else value
    return isinstance(value, list) and bool(value) and all(_is_turn(turn) for turn in value)


def _is_turn(value: object) -> bool:
    return isinstance(value, dict) and any(isinstance(value.get(key), str) for key in _ROLE_KEYS)


def read_conversation(value: object, column: str) -> list[dict]:
    """The messages in a cell. UserError names the turn that cannot be read."""
    turns = parsed(value, "The template", column)
    if isinstance(turns, dict):
        turns = turns.get("messages")
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
    content, reasoning = _content(_first(turn, _CONTENT_KEYS), role)
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
    if message["role"] == "assistant" and (weight := _first(turn, _WEIGHT_KEYS)) is not None:
        message["weight"] = _weight(weight)
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
    if (
        isinstance(content, list)
        and role != "call"
        and all(isinstance(part, dict) and "type" in part for part in content)
    ):
        parts = [(part["type"], _part(part)) for part in content]
        return tuple(
            "".join(text for kind, text in parts if (kind == "reasoning") is wanted) for wanted in (False, True)
        )
    if role in ("tool", "call"):
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")), ""
    raise UserError(f"({role}) has content that is neither text nor a list of text parts.")


def _part(part: dict) -> str:
    text = _first(part, ("text", "value", "reasoning"))
    if part["type"] not in ("text", "reasoning"):
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
