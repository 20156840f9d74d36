"""Examples: the rows of a run, split, rendered and encoded. What cannot be used is left out by its number, never silently.

Training, checking and evaluating all see the rows through here, so that what is shown is what is learned.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ftui.config import RunConfig
from ftui.dataset import BrokenRow, Rows
from ftui.encoding import Encoded, Encoding, Message
from ftui.errors import UserError

PARTS = ("train", "validation", "test")


class Example(NamedTuple):
    """A usable row: its number in the data, its messages, its tokens."""

    row: int
    messages: list[Message]
    encoded: Encoded

    @property
    def question(self) -> list[Message]:
        """What the model is asked: everything before the last answer."""
        return self.messages[:-1]

    @property
    def answer(self) -> str:
        return str(self.messages[-1].get("content") or "")

    @property
    def is_chat(self) -> bool:
        """Whether there is a question and an answer; plain text has neither."""
        return len(self.messages) > 1 and self.messages[-1]["role"] == "assistant"


class LeftOut(NamedTuple):
    row: int
    reason: str


@dataclass(frozen=True)
class Examples:
    """`broken`: rows that could not even be read. `cut`: rows whose end `max_length` cut off, still used.

    `rows` are all that the row numbers count: those of a validation or test file stand at the end.
    """

    rows: Rows
    train: list[Example]
    validation: list[Example]
    test: list[Example]
    left_out: list[LeftOut]
    cut: list[int]
    broken: tuple[BrokenRow, ...]

    @property
    def sha256(self) -> str:
        return self.rows.sha256

    def notes(self) -> list[str]:
        """What a person should know of these rows, one sentence each."""
        sentences = []
        if self.broken:
            sentences.append(f"Could not be read: {_rows(len(self.broken))}, first: {self.broken[0].reason}")
        if self.left_out:
            listed = _listed([left.row for left in self.left_out])
            sentences.append(f"Left out: {listed}; first reason: {self.left_out[0].reason}")
        if self.cut:
            sentences.append(f"Longer than max_length, so the end is cut off: {_listed(self.cut)}.")
        return sentences

    def split_json(self) -> dict[str, Any]:
        return {"sha256": self.sha256, **{part: [example.row for example in getattr(self, part)] for part in PARTS}}


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _listed(rows: Sequence[int]) -> str:
    """How many rows, and the first ten of them, counted from 1 as people do."""
    numbers = ", ".join(str(row + 1) for row in rows[:10])
    return f"{_rows(len(rows))} ({numbers}{' …' if len(rows) > 10 else ''})"


def prepare(config: RunConfig, encoding: Encoding, rows: Rows | None = None) -> Examples:
    """The examples of `config`. UserError when the template does not fit the columns, or nothing is left to learn."""
    rows = rows if rows is not None else config.dataset.load()
    config.template.check(rows.columns)
    split = config.split.apply(rows)
    left_out: list[LeftOut] = []
    parts = {part: list(_encode(config, encoding, split.rows, getattr(split, part), left_out)) for part in PARTS}
    if not parts["train"]:
        reason = f" First reason, row {left_out[0].row + 1}: {left_out[0].reason}" if left_out else ""
        raise UserError(
            f"No row is left to train on: {len(left_out)} of {len(split.rows)} rows cannot be used.{reason}"
        )
    cut = [example.row for part in parts.values() for example in part if example.encoded.cut]
    return Examples(rows=split.rows, **parts, left_out=left_out, cut=cut, broken=rows.problems)


def _encode(
    config: RunConfig, encoding: Encoding, rows: Rows, numbers: Sequence[int], left_out: list[LeftOut]
) -> Iterator[Example]:
    usable, conversations = [], []
    for number, row in zip(numbers, rows.take(numbers), strict=True):
        try:
            conversations.append(config.template.render(row))
            usable.append(number)
        except UserError as error:
            left_out.append(LeftOut(number, str(error)))
    for number, messages, encoded in zip(
        usable, conversations, _encode_each(encoding, conversations, config.training.max_length), strict=True
    ):
        if isinstance(encoded, str):
            left_out.append(LeftOut(number, encoded))
        elif not config.training.completion_only_loss:
            yield Example(number, messages, encoded._replace(labels=encoded.input_ids))
        elif not encoded.trained:
            left_out.append(LeftOut(number, _nothing_learned(messages, encoded, config.training.max_length)))
        else:
            yield Example(number, messages, encoded)


def _encode_each(encoding: Encoding, conversations: list[list[Message]], max_length: int) -> list[Encoded | str]:
    """All at once; one by one only where the template refuses one, to find out which."""
    try:
        return list(encoding.encode(conversations, max_length))
    except UserError:
        return [_encode_one(encoding, messages, max_length) for messages in conversations]


def _encode_one(encoding: Encoding, messages: list[Message], max_length: int) -> Encoded | str:
    try:
        return encoding.encode([messages], max_length)[0]
    except UserError as error:
        return str(error)


def _nothing_learned(messages: list[Message], encoded: Encoded, max_length: int) -> str:
    if encoded.cut:
        return (
            f"its answer lies wholly behind max_length ({max_length} tokens) and would be cut away. "
            f"Raise max_length to {len(encoded.input_ids) + encoded.cut} or shorten the row."
        )
    if not any(message["role"] == "assistant" for message in messages):
        return "it has no assistant message to learn."
    return "all its answers have weight 0, so nothing is learned from it."
