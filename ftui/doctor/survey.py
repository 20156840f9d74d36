"""Survey: what the checks need of all usable rows, gathered in one pass: texts in Arrow, everything else as numbers.

No example outlives its batch, so a million rows take the memory of their texts and of a few numbers each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from ftui.doctor.language import language_of
from ftui.encoding import Message
from ftui.examples import PARTS, Example, Examples

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

BATCH = 1_000

Mark = tuple[str, int]  # what is worth knowing of a row, and its number
Look = Callable[[Sequence[Example]], Iterable[Mark]]


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

        kinds = (np.int64, np.int8, bool, np.int32, np.int32, np.int64, np.int64, np.int64, object, object, np.int32)
        numbers: list[list[np.ndarray]] = [[] for _ in kinds]
        texts: list[list[pa.Array]] = [[], [], []]
        marks: dict[str, list[int]] = {}
        for part, batch in _batches(examples):
            entries = list(zip(*(_entry(part, example) for example in batch), strict=True))
            for column, kind, values in zip(numbers, kinds, entries[:-3], strict=True):
                column.append(np.array(values, dtype=kind))
            for column, values in zip(texts, entries[-3:], strict=True):
                column.append(pa.array(values, pa.large_string()))
            for look in looks:
                for mark, row in look(batch):
                    marks.setdefault(mark, []).append(row)
        arrays = [
            np.concatenate(column) if column else np.array([], dtype=kind)
            for column, kind in zip(numbers, kinds, strict=True)
        ]
        order = np.argsort(arrays[0], kind="stable")
        ordered = [pa.chunked_array(column, pa.large_string()).take(pa.array(order)) for column in texts]
        return cls(*(array[order] for array in arrays), *ordered, {mark: sorted(rows) for mark, rows in marks.items()})

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


def _entry(part: int, example: Example) -> tuple:
    *before, last = example.messages
    tools = [json.dumps(example.messages[0]["tools"])] if example.messages[0].get("tools") else []
    system = "\n".join([said(message) for message in before if message["role"] == "system"] + tools)
    asked = "\n".join(said(message) for message in before if message["role"] != "system")
    answer = said(last)
    return (
        example.row,
        part,
        example.is_chat,
        len(example.encoded.input_ids) + example.encoded.cut,
        example.encoded.cut,
        hash((plain(system), plain(asked))),
        hash(plain(answer)),
        hash((system, asked, answer)),
        language_of(asked),
        language_of(answer),
        len(example.messages),
        system,
        asked,
        answer,
    )


def plain(text: str) -> str:
    return " ".join(text.casefold().split())


def said(message: Message) -> str:
    """All that a message says: its reasoning, its content, its tool calls."""
    content = message.get("content") or ""
    if message.get("reasoning_content"):
        content = f"{message['reasoning_content']}\n{content}"
    return f"{content}\n{json.dumps(message['tool_calls'])}" if message.get("tool_calls") else content
