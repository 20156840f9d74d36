"""Texts: the examples as columns of text, gathered once for all checks."""

from __future__ import annotations

import json
from dataclasses import dataclass

from ftui.encoding import Message
from ftui.examples import Example, Examples


@dataclass(frozen=True)
class Texts:
    """One entry per example in each list. `systems` hold the tools, too; `asked` is without both; plain text is all `answers`."""

    rows: list[int]
    parts: list[str]
    systems: list[str]
    asked: list[str]
    answers: list[str]
    examples: list[Example]

    @classmethod
    def of(cls, examples: Examples) -> Texts:
        texts = cls([], [], [], [], [], [])
        for name, part in examples.parts.items():
            for example in part:
                *before, last = example.messages
                texts.rows.append(example.row)
                texts.parts.append(name)
                tools = [json.dumps(example.messages[0]["tools"])] if example.messages[0].get("tools") else []
                system = [_said(message) for message in before if message["role"] == "system"]
                texts.systems.append("\n".join(system + tools))
                texts.asked.append("\n".join(_said(message) for message in before if message["role"] != "system"))
                texts.answers.append(_said(last))
                texts.examples.append(example)
        return texts

    @property
    def prompts(self) -> list[tuple[str, str]]:
        return list(zip(self.systems, self.asked, strict=True))

    @property
    def spoken(self) -> list[str]:
        """What each row says of its own; a system prompt that all share is none of it."""
        pairs = [f"{asked}\n{answer}" for asked, answer in zip(self.asked, self.answers, strict=True)]
        if len(set(self.systems)) == 1:
            return pairs
        return [f"{system}\n{pair}" for system, pair in zip(self.systems, pairs, strict=True)]


def _said(message: Message) -> str:
    said = message.get("content") or ""
    if message.get("reasoning_content"):
        said = f"{message['reasoning_content']}\n{said}"
    return f"{said}\n{json.dumps(message['tool_calls'])}" if message.get("tool_calls") else said
