"""Rows: a read-only table in Arrow memory. It does not know files.

Arrow gives every column one type and invents keys to make objects alike; conversations and tool calls do not bear that.
So a column that holds anything but text is kept as JSON text, marked in the schema, and comes back as it was.
Only columns that arrive in Arrow form (Parquet, Arrow, the Hub) keep Arrow's types.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Literal

from ftui.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

MAX_BYTES = 1_000_000_000
MAX_COLUMNS = 1_000
MAX_CELL = 10_000_000
LONG_CELL = 100_000
MAX_BROKEN = 10_000
BATCH = 2_000

_JSON = {b"ftui": b"json"}


def _plain(value: object) -> str:
    """Dates, decimals and bytes, which JSON does not know."""
    return value.hex() if isinstance(value, bytes) else str(value)


_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_plain).encode
_canonical = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True, default=_plain).encode


@dataclass(frozen=True)
class BrokenRow:
    """A row that could not be read, and why."""

    file: str
    number: int
    reason: str
    unit: Literal["line", "row"] = "line"

    def __str__(self) -> str:
        return f"{self.file}, {self.unit} {self.number}: {self.reason}"


@dataclass(frozen=True)
class Note:
    """Something about a file that the user should know, though nothing is lost: a guessed encoding, a file left out."""

    text: str


class Rows:
    """The rows of a data set; a row is a dictionary of its columns. Never changes.

    `own`: how many of them are the data set's; what follows came from files of their own, for validation and test.
    """

    def __init__(
        self, table: pa.Table, problems: Sequence[BrokenRow] = (), notes: Sequence[str] = (), own: int | None = None
    ) -> None:
        self._table = table
        self.own = table.num_rows if own is None else own
        self.columns: tuple[str, ...] = tuple(table.column_names)
        self.problems: tuple[BrokenRow, ...] = tuple(problems)
        self.notes: tuple[str, ...] = tuple(notes)

    @classmethod
    def gather(
        cls, parts: Iterable[dict | BrokenRow | Note | pa.Table], limit: int | None = None, name: str = "The rows"
    ) -> Rows:
        """Rows from what readers yield: rows, tables of rows, rows that could not be read, notes. Memory stays bounded.

        UserErrors of the table as a whole begin with `name`; those of the readers name their file themselves.
        """
        gathering = _Gathering(limit)
        for part in parts:
            with _about(name):
                gathering.add(part)
            if gathering.full:
                break
        with _about(name):
            return gathering.rows()

    def __len__(self) -> int:
        return self._table.num_rows

    def __getitem__(self, index: int) -> dict[str, object]:
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        return _decode(self._table.slice(index % len(self), 1))[0]

    def __iter__(self) -> Iterator[dict[str, object]]:
        for start in range(0, len(self), BATCH):
            yield from _decode(self._table.slice(start, BATCH))

    def __repr__(self) -> str:
        return f"Rows({len(self)} × {', '.join(self.columns)})"

    def take(self, indices: Sequence[int]) -> Rows:
        import pyarrow as pa

        # Arrow joins all pieces of a table before it takes rows; so it gets only the stretch that they lie in.
        first, last = min(indices, default=0), max(indices, default=-1)
        places = pa.array([index - first for index in indices], pa.int64())
        return Rows(self._table.slice(first, last - first + 1).take(places))

    def head(self, n: int) -> list[dict[str, object]]:
        return _decode(self._table.slice(0, n))

    def containing(self, text: str) -> list[int]:
        """Numbers of the rows that have a cell with this text in it, upper and lower case alike."""
        import pyarrow.compute as pc

        found = [
            pc.match_substring(_searchable(field, self._table[place]), _quoted(field, text), ignore_case=True)
            for place, field in enumerate(self._table.schema)
        ]
        anywhere = reduce(pc.or_, (pc.fill_null(each, False) for each in found))
        return pc.indices_nonzero(anywhere).to_pylist()

    def followed_by(self, other: Rows) -> Rows:
        """These rows, then those of `other`; a column that only one side has is empty on the other."""
        table = _unite([self._table, other._table])
        return Rows(table, self.problems + other.problems, self.notes + other.notes, self.own)

    @cached_property
    def sha256(self) -> str:
        """Of the content: the same for the same rows on every machine, from whichever file format they came."""
        digest = hashlib.sha256()
        for row in self:
            digest.update(canonical(row) + b"\n")
        return digest.hexdigest()


def canonical(row: dict[str, object]) -> bytes:
    """A row as JSON with sorted keys, no blanks and empty cells left out: equal for equal rows, and only for them."""
    return _canonical({key: value for key, value in row.items() if value is not None}).encode("utf-8", "surrogatepass")


@contextmanager
def _about(name: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise UserError(f"{name}: {error}") from None


class _Gathering:
    """Rows on their way into Arrow: batches of a bounded size, counted as they come."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.batch: list[dict] = []
        self.tables: list[pa.Table] = []
        self.problems: list[BrokenRow] = []
        self.notes: list[str] = []
        self.count = self.bytes = 0

    @property
    def full(self) -> bool:
        return self.limit is not None and self.count >= self.limit

    def add(self, part: dict | BrokenRow | Note | pa.Table) -> None:
        if isinstance(part, dict):
            self.batch.append(part)
            self.count += 1
            if len(self.batch) == BATCH:
                self._close_batch()
        elif isinstance(part, BrokenRow):
            self.problems.append(part)
            if len(self.problems) > MAX_BROKEN:
                raise UserError(f"More than {MAX_BROKEN:,} rows cannot be read. The first: {self.problems[0]}")
        elif isinstance(part, Note):
            self.notes.append(part.text)
        else:
            self._close_batch()
            self._add_table(_unmarked(part))
            self.count += part.num_rows

    def rows(self) -> Rows:
        self._close_batch()
        if not self.count:
            more = f"The first problem: {self.problems[0]}" if self.problems else "Choose a file with rows in it."
            raise UserError(" ".join(["There is not one row to read here.", *dict.fromkeys(self.notes), more]))
        table = _unite(self.tables).slice(0, self.limit)
        return Rows(table, self.problems, [*dict.fromkeys(self.notes), *_long_cells(table)])

    def _close_batch(self) -> None:
        if self.batch:
            batch, self.batch = self.batch, []
            self._add_table(_table(batch))

    def _add_table(self, table: pa.Table) -> None:
        self.bytes += table.nbytes
        if self.bytes > MAX_BYTES:
            raise UserError(
                f"The data is larger than {MAX_BYTES // 10**9} GB in memory. Set a limit of rows, or split the file."
            )
        for name, longest in _longest_cells(table):
            if longest > MAX_CELL:
                raise UserError(
                    f"Column “{name}” has a cell of {longest / 1e6:.0f} MB. No cell may hold more than {MAX_CELL // 10**6} MB."
                )
        self.tables.append(table)


def _table(rows: list[dict]) -> pa.Table:
    """Python rows as Arrow: a column of text as text, any other as marked JSON text."""
    import pyarrow as pa

    names = list(dict.fromkeys(name for row in rows for name in row))
    _check_columns(names)
    columns, fields = [], []
    for name in names:
        values = [row.get(name) for row in rows]
        plain = all(value is None or isinstance(value, str) for value in values)
        columns.append(pa.array(values, pa.string()) if plain else _as_json(values))
        fields.append(pa.field(name, pa.string(), metadata=None if plain else _JSON))
    return pa.table(columns, schema=pa.schema(fields))


def _as_json(values: list) -> pa.Array:
    import pyarrow as pa

    return pa.array([None if value is None else _compact(value) for value in values], pa.string())


def _unmarked(table: pa.Table) -> pa.Table:
    """A table from outside without its metadata, so that no file can claim that a column is ours; Arrow's JSON becomes ours."""
    import pyarrow as pa

    _check_columns(table.column_names)
    table = table.cast(pa.schema([field.remove_metadata() for field in table.schema]))
    for position, field in enumerate(table.schema):
        if isinstance(field.type, pa.JsonType):
            try:
                values = [None if text is None else json.loads(text) for text in table[position].to_pylist()]
            except (ValueError, RecursionError):
                raise UserError(f"Column “{field.name}” claims to hold JSON, but does not. Save it as text.") from None
            table = table.set_column(position, pa.field(field.name, pa.string(), metadata=_JSON), _as_json(values))
    return table


def _check_columns(names: Sequence[str]) -> None:
    if len(names) > MAX_COLUMNS:
        raise UserError(
            f"There are {len(names):,} columns; at most {MAX_COLUMNS:,} can be read. Is the delimiter right, and are rows really rows?"
        )
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"Two columns are called “{twice}”. Rename one of them.")


def _unite(tables: Sequence[pa.Table]) -> pa.Table:
    """One table below the other. Where a column's types differ, it becomes JSON; where it is absent, it is empty."""
    import pyarrow as pa

    fields: dict[str, pa.Field] = {}
    for field in (field for table in tables for field in table.schema):
        known = fields.setdefault(field.name, field)
        if not known.equals(field, check_metadata=True):
            fields[field.name] = pa.field(field.name, pa.string(), metadata=_JSON)
    _check_columns(list(fields))
    schema = pa.schema(list(fields.values()))
    return pa.concat_tables(
        table if table.schema.equals(schema, check_metadata=True) else _fitted(table, schema) for table in tables
    )


def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    def column(field: pa.Field) -> pa.Array | pa.ChunkedArray:
        if field.name not in table.column_names:
            return pa.nulls(table.num_rows, field.type)
        own = table.schema.field(field.name)
        return table[field.name] if own.equals(field, check_metadata=True) else _as_json(_cells(own, table[field.name]))

    return pa.table([column(field) for field in schema], schema=schema)


def _decode(table: pa.Table) -> list[dict[str, object]]:
    columns = [_cells(field, table[position]) for position, field in enumerate(table.schema)]
    return [dict(zip(table.column_names, cells, strict=True)) for cells in zip(*columns, strict=True)]


def _cells(field: pa.Field, column: pa.ChunkedArray) -> list:
    if field.metadata == _JSON:
        return [None if text is None else json.loads(text) for text in column.to_pylist()]
    if _is_nested(field):
        return [_without_invented(value) for value in column.to_pylist(maps_as_pydicts="lossy")]
    return column.to_pylist()


def _searchable(field: pa.Field, column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    import pyarrow as pa

    if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
        return column
    return pa.array([None if cell is None else _plain_text(cell) for cell in _cells(field, column)], pa.string())


def _plain_text(cell: object) -> str:
    return cell if isinstance(cell, str) else _compact(cell)


def _quoted(field: pa.Field, text: str) -> str:
    """The text as it stands in the cells of this column: in JSON with its quotes and line ends escaped."""
    return text if field.metadata != _JSON and not _is_nested(field) else _compact(text)[1:-1]


def _is_nested(field: pa.Field) -> bool:
    import pyarrow as pa

    return pa.types.is_nested(field.type)


def _without_invented(value: object) -> object:
    """Arrow gives every object in a column all keys that any of them has; the empty ones are left out again."""
    if isinstance(value, dict):
        return {key: _without_invented(inner) for key, inner in value.items() if inner is not None}
    return [_without_invented(inner) for inner in value] if isinstance(value, list) else value


def _longest_cells(table: pa.Table) -> Iterator[tuple[str, int]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    for field in table.schema:
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            yield field.name, pc.max(pc.binary_length(table[field.name])).as_py() or 0


def _long_cells(table: pa.Table) -> Iterator[str]:
    for name, longest in _longest_cells(table):
        if longest > LONG_CELL:
            yield f"Column “{name}” has cells of up to {longest:,} bytes; what goes beyond the longest row in tokens is cut."
