"""Survey: what the checks need of all usable rows, gathered in one pass: texts in Arrow, everything else as numbers.

No example outlives its batch, so a million rows take the memory of their texts and of a few numbers each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from ftui.doctor.language import language_of
from ftui.encoding import Message
from ftui.examples import PARTS, Example, Examples

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

BATCH = 1_000

Mark = tuple[str, int]  # what is worth knowing of a row, and its number
Look = Callable[[Sequence[Example]], Iterable[Mark]]

# The columns of Survey: numbers with their types in numpy, and texts, which lie in Arrow.
_NUMBERS = {
    "rows": "int64", "parts": "int8", "is_chat": "bool", "tokens": "int32", "cut": "int32", "asks": "int64", "says": "int64",
    "whole": "int64", "asked_in": "object", "answered_in": "object", "turns": "int32",
}  # fmt: skip
_TEXTS = ("systems", "asked", "answers")


@dataclass(frozen=True)
class Survey:
    """One entry per usable row, in the order of row numbers.

    `systems` hold the tools, too; `asked` is without both; plain text is all `answers`. `asks`, `says` and `whole` are
    keys: equal where prompts, answers (both without case and blanks) and whole rows are. `parts` are places in PARTS.
    `asked_in` and `answered_in` are languages, None where they cannot be told. `marks`: row numbers by what a look saw.
    """

    rows: np.ndarray
    parts: np.ndarray
    is_chat: np.ndarray
    tokens: np.ndarray  # before the cut
    cut: np.ndarray
    asks: np.ndarray
    says: np.ndarray
    whole: np.ndarray
    asked_in: np.ndarray
    answered_in: np.ndarray
    turns: np.ndarray  # messages, the system prompt among them
    systems: pa.ChunkedArray
    asked: pa.ChunkedArray
    answers: pa.ChunkedArray
    marks: dict[str, list[int]]

    @classmethod
    def of(cls, examples: Examples, looks: Sequence[Look] = ()) -> Survey:
        import numpy as np
        import pyarrow as pa

        numbers: dict[str, list[np.ndarray]] = {name: [] for name in _NUMBERS}
        texts: dict[str, list[pa.Array]] = {name: [] for name in _TEXTS}
        marks: dict[str, list[int]] = {}
        for part, batch in _batches(examples):
            entries = [_entry(part, example) for example in batch]
            for name, kind in _NUMBERS.items():
                numbers[name].append(np.array([entry[name] for entry in entries], dtype=kind))
            for name in _TEXTS:
                texts[name].append(pa.array([entry[name] for entry in entries], pa.large_string()))
            for look in looks:
                for mark, row in look(batch):
                    marks.setdefault(mark, []).append(row)
        arrays = {name: np.concatenate([np.array([], kind), *numbers[name]]) for name, kind in _NUMBERS.items()}
        order = np.argsort(arrays["rows"], kind="stable")
        places = pa.array(order)
        return cls(
            **{name: array[order] for name, array in arrays.items()},
            **{name: pa.chunked_array(column, pa.large_string()).take(places) for name, column in texts.items()},
            marks={mark: sorted(rows) for mark, rows in marks.items()},
        )

    def __len__(self) -> int:
        return len(self.rows)

    def numbers(self, places: Iterable[int]) -> list[int]:
        """The row numbers at these places, as plain numbers."""
        return [int(self.rows[place]) for place in places]

    def answer(self, place: int) -> str:
        return self.answers[int(place)].as_py()

    @property
    def spoken(self) -> list[pa.ChunkedArray]:
        """What each row says of its own; a system prompt that all share is none of it."""
        import pyarrow.compute as pc

        shared = pc.count_distinct(self.systems).as_py() < 2
        return [self.asked, self.answers] if shared else [self.systems, self.asked, self.answers]


def _batches(examples: Examples) -> Iterator[tuple[int, list[Example]]]:
    for place, part in enumerate(PARTS):
        each = iter(getattr(examples, part))
        while batch := list(islice(each, BATCH)):
            yield place, batch


def _entry(part: int, example: Example) -> dict[str, Any]:
    """What a row adds to each column of Survey."""
    *before, last = example.messages
    tools = [json.dumps(example.messages[0]["tools"])] if example.messages[0].get("tools") else []
    system = "\n".join([said(message) for message in before if message["role"] == "system"] + tools)
    asked = "\n".join(said(message) for message in before if message["role"] != "system")
    answer = said(last)
    return {
        "rows": example.row,
        "parts": part,
        "is_chat": example.is_chat,
        "tokens": len(example.encoded.input_ids) + example.encoded.cut,
        "cut": example.encoded.cut,
        "asks": hash((plain(system), plain(asked))),
        "says": hash(plain(answer)),
        "whole": hash((system, asked, answer)),
        "asked_in": language_of(asked),
        "answered_in": language_of(answer),
        "turns": len(example.messages),
        "systems": system,
        "asked": asked,
        "answers": answer,
    }


def plain(text: str) -> str:
    return " ".join(text.casefold().split())


def said(message: Message) -> str:
    """All that a message says: its reasoning, its content, its tool calls."""
    content = message.get("content") or ""
    if message.get("reasoning_content"):
        content = f"{message['reasoning_content']}\n{content}"
    return f"{content}\n{json.dumps(message['tool_calls'])}" if message.get("tool_calls") else content
