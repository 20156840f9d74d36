"""Shapes: the prepared rows as other tools read them: OpenAI JSONL, ShareGPT, Alpaca, prompt and completion.

What is written is what is learned: the template is filled in, unusable rows are left out, the parts are files of their
own. Read back by ftui, every shape gives the same messages again; only words beside a tool call are a turn of their own
in ShareGPT, which knows no other way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ftui.encoding import Message
from ftui.errors import UserError
from ftui.examples import Examples

Row = dict[str, object]


class Written(NamedTuple):
    """The files of the parts that have rows, how many rows they hold, and the numbers of rows that the shape cannot say."""

    paths: list[Path]
    rows: int
    left_out: list[int]

    @property
    def sentence(self) -> str:
        names = ", ".join(path.name for path in self.paths)
        lost = (
            f" {len(self.left_out):,} rows have tools, several systems or turns that this shape cannot say."
            if self.left_out
            else ""
        )
        return f"{self.rows:,} rows in {names}.{lost}"


def write_parts(examples: Examples, shape: str, folder: Path) -> Written:
    """One JSONL file for each part that has rows. UserError when the shape cannot say a single row."""
    write = SHAPES[shape]
    if write is _pair and not all(_pair(example.messages) for part in examples.parts.values() for example in part):
        write = _spoken_pair  # one file, one kind of prompt
    paths, left_out, count = [], [], 0
    for name, part in examples.parts.items():
        path = folder / f"{name}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for example in part:
                row = write(example.messages)
                if row is None:
                    left_out.append(example.row)
                    continue
                count += 1
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        if len(part):
            paths.append(path)
        else:
            path.unlink()
    if not count:
        raise UserError(f"Not one of these rows can be said as {shape}. Choose another shape.")
    return Written(paths, count, left_out)


def _openai(messages: list[Message]) -> Row | None:
    """https://platform.openai.com/docs/guides/supervised-fine-tuning: arguments of tool calls are JSON text."""
    if messages[0]["role"] == "text":
        return None
    tools = messages[0].get("tools")
    return {"messages": list(map(_openai_message, messages)), **({"tools": tools} if tools else {})}


def _openai_message(message: Message) -> Row:
    kept = {key: value for key, value in message.items() if key in ("role", "name", "tool_call_id", "weight")}
    kept["content"] = _said(message)
    if message.get("tool_calls"):
        kept["tool_calls"] = [
            {"id": f"call_{place}", **call, "function": {"name": name, "arguments": _json(arguments)}}
            for place, call, name, arguments in _calls(message)
        ]
    return kept


def _sharegpt(messages: list[Message]) -> Row | None:
    if messages[0]["role"] == "text":
        return None
    turns = [turn for message in messages for turn in _sharegpt_turns(message)]
    tools = messages[0].get("tools")
    return {"conversations": turns, **({"tools": _json(tools)} if tools else {})}


def _sharegpt_turns(message: Message) -> Iterator[Row]:
    weight = {"weight": message["weight"]} if "weight" in message else {}
    calls = [{"name": name, "arguments": arguments} for _, _, name, arguments in _calls(message)]
    said = _said(message)
    if said or not calls:
        speaker = {"user": "human", "assistant": "gpt", "tool": "observation"}.get(message["role"], message["role"])
        yield {"from": speaker, "value": said, **weight}
    if calls:
        yield {"from": "function_call", "value": _json(calls[0] if len(calls) == 1 else calls), **weight}


def _alpaca(messages: list[Message]) -> Row | None:
    """Instruction and output, earlier turns as `history`: https://llamafactory.readthedocs.io, data preparation."""
    system, turns = _taken_turns(messages)
    if turns is None:
        return None
    *earlier, (asked, answered) = turns
    return {
        "instruction": asked,
        "input": "",
        "output": answered,
        "system": system,
        "history": list(map(list, earlier)),
    }


def _taken_turns(messages: list[Message]) -> tuple[str, list[tuple[str, str]] | None]:
    """System, and questions with their answers; None where it is not simply one after the other."""
    system = _said(messages[0]) if messages[0]["role"] == "system" else ""
    turns = messages[1:] if messages[0]["role"] == "system" else messages
    roles = [message["role"] for message in turns]
    plain = not any(
        message.get("tool_calls") or message.get("tools") or message.get("weight") == 0 for message in messages
    )
    if not turns or roles != ["user", "assistant"] * (len(turns) // 2) or not plain:
        return system, None
    said = list(map(_said, turns))
    return system, list(zip(said[::2], said[1::2], strict=True))


def _pair(messages: list[Message]) -> Row | None:
    """Prompt and completion as text. Plain text is all completion."""
    if messages[0]["role"] == "text":
        return {"prompt": "", "completion": messages[0]["content"]}
    system, turns = _taken_turns(messages)
    if turns is None or len(turns) > 1 or system:
        return None
    return {"prompt": turns[0][0], "completion": turns[0][1]}


def _spoken_pair(messages: list[Message]) -> Row | None:
    """Prompt and completion as trl's lists of messages, for rows with a system prompt or earlier turns that are not learned."""
    answers = [message for message in messages if message["role"] == "assistant" and message.get("weight") != 0]
    if answers != messages[-1:] or any(message.get("tool_calls") or message.get("tools") for message in messages):
        return None
    said = [{"role": message["role"], "content": _said(message)} for message in messages]
    return {"prompt": said[:-1], "completion": said[-1:]}


def _said(message: Message) -> str:
    """The content, behind the reasoning where there is any."""
    content, reasoning = message.get("content") or "", message.get("reasoning_content")
    return f"<think>\n{reasoning}\n</think>\n\n{content}" if reasoning else content


def _calls(message: Message) -> Iterator[tuple[int, Row, str, object]]:
    for place, call in enumerate(message.get("tool_calls") or []):
        yield place, call, call["function"]["name"], call["function"]["arguments"]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


SHAPES: dict[str, Callable[[list[Message]], Row | None]] = {
    "openai": _openai,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "prompt-completion": _pair,
}
