"""Messages, OpenAI-shaped, and what templates need to know of them: the visible answer, the reasoning, the system prompt."""

from __future__ import annotations

from typing import Any

Message = dict[str, Any]


def answer_of(message: Message) -> str:
    """The visible answer, without reasoning: what every template writes as it is."""
    return (message.get("content") or "").rpartition("</think>")[2].strip()


def reasoning_of(message: Message) -> str:
    """The thoughts before the answer, from their own field or from inside <think>…</think>."""
    inline = (message.get("content") or "").rpartition("</think>")[0].strip().removeprefix("<think>")
    return (message.get("reasoning_content") or inline).strip()


def fold_system(messages: list[Message]) -> list[Message]:
    """The messages with the system prompt before the first user message, for templates that have no such role."""
    system, rest = messages[0]["content"], messages[1:]
    if rest and rest[0]["role"] == "user":
        return [{**rest[0], "content": f"{system}\n\n{rest[0]['content']}"}, *rest[1:]]
    return [{"role": "user", "content": system}, *rest]
