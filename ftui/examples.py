"""Examples: the rows of a run, split, rendered and encoded. What cannot be used is left out by its number, never silently.

Training, checking and evaluating all see the rows through here, so that what is shown is what is learned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

from ftui.config import RunConfig
from ftui.dataset import BrokenRow, Rows
from ftui.encoding import Encoded, Encoding, Message
from ftui.errors import UserError, listed
from ftui.models import load_tokenizer
from ftui.template import PromptTemplate, Unfilled
from ftui.template.placeholders import column_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from datasets import Dataset

PARTS = ("train", "validation", "test")
BATCH = 1000


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
    """A row that cannot be used, and why. `code`: unfilled, render_failure, nothing_trainable or other, for the doctor."""

    row: int
    reason: str
    code: str


class Part(Sequence[Example]):
    """The usable rows of one side. Their tokens lie in Arrow, mapped from a file; what was said is rendered again on demand.

    So a million rows are no million Python objects. `numbers`, `lengths`, `trained` and `cut` have an entry for each
    example: its row, its tokens, how many of them are learned, and how many `max_length` cut off.
    """

    def __init__(self, rows: Rows, template: PromptTemplate, encoded: Iterable[tuple[int, Encoded]] = ()) -> None:
        self._rows, self.template = rows, template
        self._table = _stored(encoded)
        self.numbers, self.trained, self.cut = (self._table[name].to_numpy() for name in ("row", "trained", "cut"))
        self.lengths = _lengths(self._table["input_ids"])

    def __len__(self) -> int:
        return self._table.num_rows

    def __getitem__(self, place):
        """An example, or a list of them for a slice."""
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        return next(self._examples(self._table.slice(place % len(self), 1)))

    def __iter__(self) -> Iterator[Example]:
        for start in range(0, len(self), BATCH):
            yield from self._examples(self._table.slice(start, BATCH))

    def dataset(self) -> Dataset:
        """`input_ids` and `labels` as trl takes them, not copied."""
        from datasets import Dataset
        from datasets.table import InMemoryTable

        # Without a fingerprint of its own, datasets would pickle all rows to compute one.
        return Dataset(InMemoryTable(self._table.select(["input_ids", "labels"])), fingerprint=uuid4().hex)

    def _examples(self, table: pa.Table) -> Iterator[Example]:
        columns = [table[name].to_pylist() for name in ("row", "input_ids", "labels", "cut")]
        for number, row, *encoded in zip(columns[0], self._rows.take(columns[0]), *columns[1:], strict=True):
            yield Example(number, self.template.render(row), Encoded(*encoded))


def _stored(encoded: Iterable[tuple[int, Encoded]]) -> pa.Table:
    """Rows, tokens and labels in a file without a name that the system pages in and out; it goes with the table."""
    import pyarrow as pa

    tokens = pa.list_(pa.int32())
    schema = pa.schema(
        {"row": pa.int64(), "input_ids": tokens, "labels": tokens, "cut": pa.int32(), "trained": pa.int32()}
    )
    encoded = iter(encoded)
    with NamedTemporaryFile(prefix="ftui-", suffix=".arrow", delete=False) as file:
        try:
            with pa.ipc.new_file(file, schema) as writer:
                while batch := list(islice(encoded, BATCH)):
                    writer.write_table(
                        pa.table(
                            [
                                [number for number, _ in batch],
                                [each.input_ids for _, each in batch],
                                [each.labels for _, each in batch],
                                [each.cut for _, each in batch],
                                [each.trained for _, each in batch],
                            ],
                            schema=schema,
                        )
                    )
            file.flush()
            return pa.ipc.open_file(pa.memory_map(file.name)).read_all()
        finally:
            with suppress(OSError):  # Windows keeps a file that is mapped
                Path(file.name).unlink()


def _lengths(column: pa.ChunkedArray) -> np.ndarray:
    import pyarrow.compute as pc

    return pc.list_value_length(column).to_numpy()


@dataclass(frozen=True)
class Examples:
    """`broken`: rows that could not even be read. `left_out`: rows that cannot be used.

    `rows` are all that the row numbers count: those of a validation or test file stand at the end.
    """

    rows: Rows
    train: Part
    validation: Part
    test: Part
    left_out: list[LeftOut]
    broken: tuple[BrokenRow, ...]

    @property
    def parts(self) -> dict[str, Part]:
        return {name: getattr(self, name) for name in PARTS}

    @property
    def cut(self) -> list[int]:
        """Rows whose end `max_length` cut off, still used."""
        return [number for part in self.parts.values() for number in part.numbers[part.cut > 0].tolist()]

    def messages(self, row: int) -> list[Message]:
        """What is said in the usable row of this number."""
        return self.train.template.render(self.rows[row])

    def check_trainable(self) -> None:
        """UserError when nothing is left to learn."""
        if not len(self.train):
            first = self.left_out[0] if self.left_out else None
            reason = f" First reason, row {first.row + 1}: {first.reason}" if first else ""
            raise UserError(
                f"No row is left to train on: {len(self.left_out)} of {len(self.rows)} rows cannot be used.{reason}"
            )

    @property
    def sha256(self) -> str:
        return self.rows.sha256

    def notes(self) -> list[str]:
        """What a person should know of these rows, one sentence each."""
        sentences = []
        if self.broken:
            sentences.append(f"Could not be read: {_rows(len(self.broken))}, first: {self.broken[0].reason}")
        if self.left_out:
            rows = _which([left.row for left in self.left_out])
            sentences.append(f"Left out: {rows}; first reason: {self.left_out[0].reason}")
        if self.cut:
            sentences.append(f"Longer than max_length, so the end is cut off: {_which(self.cut)}.")
        return sentences

    def split_json(self) -> dict[str, Any]:
        return {"sha256": self.sha256, **{name: part.numbers.tolist() for name, part in self.parts.items()}}


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _which(rows: Sequence[int]) -> str:
    """How many rows, and the first ten of them, counted from 1 as people do."""
    return f"{_rows(len(rows))} ({listed((str(row + 1) for row in rows), 10)})"


def encoding_of(config: RunConfig, base_dir: Path) -> Encoding:
    """How a run of `config` is asked: the tokenizer of its base, under the chat template that the config names, if any."""
    return Encoding(load_tokenizer(base_dir), config.chat_template)


def prepare(
    config: RunConfig, encoding: Encoding, rows: Rows | None = None, tell: Callable[[int], None] = lambda done: None
) -> Examples:
    """The examples of `config`; `tell` hears how many rows are done. UserError when the template does not fit the columns."""
    rows = rows if rows is not None else config.dataset.load()
    config.template.check(rows.columns)
    split = config.split.apply(rows, sorted({column_of(name, rows.columns) for name in config.template.columns}))
    left_out: list[LeftOut] = []
    parts, done = {}, 0
    for name in PARTS:
        numbers, before = getattr(split, name), done
        encoded = _encode(
            config, encoding, split.rows, numbers, left_out, lambda more, so_far=before: tell(so_far + more)
        )
        parts[name] = Part(split.rows, config.template, encoded)
        done += len(numbers)
    return Examples(rows=split.rows, **parts, left_out=left_out, broken=rows.problems)


def _encode(
    config: RunConfig,
    encoding: Encoding,
    rows: Rows,
    numbers: Sequence[int],
    left_out: list[LeftOut],
    tell: Callable[[int], None],
) -> Iterator[tuple[int, Encoded]]:
    """What can be used of the rows with these numbers, a batch at a time; the rest goes to `left_out`."""
    settings = config.training
    for start in range(0, len(numbers), BATCH):
        batch = numbers[start : start + BATCH]
        rendered: dict[int, list[Message]] = {}
        for number, row in zip(batch, rows.take(batch), strict=True):
            try:
                rendered[number] = config.template.render(row)
            except UserError as error:
                left_out.append(LeftOut(number, str(error), "unfilled" if isinstance(error, Unfilled) else "other"))
        each = _encode_each(encoding, list(rendered.values()), settings.max_length, settings.completion_only_loss)
        for (number, messages), encoded in zip(rendered.items(), each, strict=True):
            if isinstance(encoded, str):
                left_out.append(LeftOut(number, encoded, "render_failure"))
            elif not encoded.trained:
                reason = _nothing_learned(messages, encoded, settings.max_length)
                left_out.append(LeftOut(number, reason, "nothing_trainable"))
            else:
                yield number, encoded
        tell(start + len(batch))


def _encode_each(
    encoding: Encoding, conversations: list[list[Message]], max_length: int, answers_only: bool
) -> list[Encoded | str]:
    """All at once; one by one only where the template refuses one, to find out which."""
    try:
        return list(encoding.encode(conversations, max_length, answers_only))
    except UserError as error:
        if len(conversations) == 1:
            return [str(error)]
        return [_encode_each(encoding, [each], max_length, answers_only)[0] for each in conversations]


def _nothing_learned(messages: list[Message], encoded: Encoded, max_length: int) -> str:
    if encoded.cut:
        return (
            f"its answer lies wholly behind max_length ({max_length} tokens) and would be cut away. "
            f"Raise max_length to {len(encoded.input_ids) + encoded.cut} or shorten the row."
        )
    if not any(message["role"] == "assistant" for message in messages):
        return "it has no assistant message to learn."
    return "all its answers have weight 0, so nothing is learned from it."
