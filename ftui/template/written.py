"""Conversations that were written into one text, such as `### Human: … ### Assistant: …`, read back as turns.

A text is a conversation only if it begins with a mark of a known style and both sides speak; any other text stays text.
"""

from __future__ import annotations

import re

_NAMES = {
    **dict.fromkeys(("human", "user", "instruction", "input", "[inst]"), "user"),
    **dict.fromkeys(("assistant", "response", "gpt", "bot", "model", "[/inst]"), "assistant"),
    **dict.fromkeys(("system",), "system"),
    **dict.fromkeys(("function",), "tool"),
}
# What opens a turn in each style, and what may end one.
_STYLES = tuple(
    (re.compile(opens, re.IGNORECASE), re.compile(ends))
    for opens, ends in (
        (r"###\s*(Human|User|Assistant|System|Instruction|Input|Response|GPT|Bot)\s*:", r"(?!)"),
        (r"<\|im_start\|>(system|user|assistant)\n", r"<\|im_end\|>\s*$"),
        (r"<\|(system|user|assistant)\|>", r"</s>\s*$|<\|end\|>\s*$"),
        (r"<start_of_turn>(user|model)\n", r"<end_of_turn>\s*$"),
        (r"<\|start_header_id\|>(system|user|assistant)<\|end_header_id\|>", r"<\|eot_id\|>\s*$"),
        (r"(?:<s>\s*)?(\[/?INST\])", r"</s>\s*$"),
        (r"(?:\A|\n\n)(Human|User|Assistant|System|Function(?= Response))(?: Response)?:", r"<\|endoftext\|>\s*$"),
    )
)
_PREAMBLE = re.compile(r"Below is an instruction\b[^#]*\Z")  # Alpaca's, which says nothing that the roles do not
_LLAMA_SYSTEM = re.compile(r"\s*<<SYS>>(.*?)<</SYS>>", re.DOTALL)


def written_turns(text: str) -> list[dict[str, str]]:
    """The turns in a text, as role and content; nothing where it is no conversation."""
    for opening, ending in _STYLES:
        marks = list(opening.finditer(text))
        if marks and _is_beginning(text[: marks[0].start()]):
            roles = [_NAMES[mark[1].lower()] for mark in marks]
            ends = [*(mark.start() for mark in marks[1:]), len(text)]
            said = [ending.sub("", text[mark.end() : end]).strip() for mark, end in zip(marks, ends, strict=True)]
            if {"user", "assistant"} <= set(roles):
                return _joined(roles, said)
    return []


def _is_beginning(before: str) -> bool:
    return before.strip() in ("", "<s>", "<bos>", "<|begin_of_text|>") or bool(_PREAMBLE.match(before.strip()))


def _joined(roles: list[str], said: list[str]) -> list[dict[str, str]]:
    """Turns of one side that follow each other are one: an instruction and its input."""
    turns: list[dict[str, str]] = []
    for role, content in zip(roles, said, strict=True):
        if role == "user" and (system := _LLAMA_SYSTEM.match(content)):
            turns.append({"role": "system", "content": system[1].strip()})
            content = content[system.end() :].strip()
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] = f"{turns[-1]['content']}\n\n{content}".strip()
        else:
            turns.append({"role": role, "content": content})
    if turns[-1] == {"role": "assistant", "content": ""} and turns[-2:-1]:
        turns.pop()  # a prompt that was left open for the answer
    return turns
