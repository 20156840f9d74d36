"""Which reader reads which file, and the formats that are not text: Parquet, Arrow, Excel."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from ftui.dataset.delimited import read_delimited
from ftui.dataset.header import LOOKED_AT, header_place
from ftui.dataset.jsonfile import read_json
from ftui.dataset.rows import MAX_BYTES, MAX_COLUMNS, BrokenRow, Note
from ftui.dataset.textfile import TextFile
from ftui.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

DELIMITED = (".csv", ".tsv")
JSON = (".json", ".jsonl", ".ndjson")
PROSE = (".txt", ".md")
TABLES = (".parquet", ".arrow", ".feather", ".xlsx")
MAX_SHEET_BYTES = 250_000_000

# A small Parquet file can unpack to gigabytes, and its own numbers do not say so: it is unpacked in small pieces.
_PARQUET_ROWS = 32

Part = "dict | BrokenRow | Note | pa.Table"


@dataclass(frozen=True)
class Reading:
    """What the user said about how to read: the parts of DatasetSource that concern one file."""

    records: str | None = None
    sheet: str | None = None
    text_unit: str = "paragraph"


def suffix_of(name: str) -> str | None:
    """The ending that says how to read a file, without `.gz`; None for a file that is no data."""
    lower = name.lower()
    suffix = Path(lower.removesuffix(".gz")).suffix
    known = DELIMITED + JSON + PROSE + (() if lower.endswith(".gz") else TABLES)
    return suffix if suffix in known else None


def read(path: Path, name: str, reading: Reading) -> Iterator[Part]:
    """Rows, tables of rows, broken rows and notes of one file. UserError where nothing of it can be read."""
    suffix = suffix_of(name)
    if suffix is None:
        raise UserError(
            f"{name} is of no kind that ftui reads. It reads {', '.join(DELIMITED + JSON + TABLES + PROSE)}, and .gz of the text ones."
        )
    if suffix in TABLES:
        if not path.stat().st_size:
            raise UserError(f"{name} is empty. Choose a file with rows in it.")
        if suffix == ".parquet":
            yield from _read_parquet(path, name)
        elif suffix == ".xlsx":
            yield from _read_sheet(path, name, reading.sheet)
        else:
            yield from _read_arrow(path, name)
        return
    file = TextFile.survey(path, name)
    if file.guessed:
        yield Note(file.guessed)
    if suffix in DELIMITED:
        yield from read_delimited(file)
    elif suffix in JSON:
        yield from read_json(file, reading.records)
    else:
        yield from _read_prose(file, reading.text_unit)


def _read_prose(file: TextFile, unit: str) -> Iterator[dict]:
    """Plain text, one row a line, a block between blank lines, or the whole file; always in column `text`."""
    with file.open() as stream:
        text = stream.read().replace("\r\n", "\n").replace("\r", "\n")
    pieces = {"line": r"\n", "paragraph": r"\n\s*\n", "file": r"(?!)"}[unit]
    for piece in re.split(pieces, text):
        if piece.strip():
            yield {"text": piece.strip("\n")}


def _read_parquet(path: Path, name: str) -> Iterator[pa.Table]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, memory_map=True) as file:
            if len(file.schema_arrow.names) > MAX_COLUMNS:
                raise UserError(
                    f"{name} has {len(file.schema_arrow.names):,} columns; at most {MAX_COLUMNS:,} can be read."
                )
            if sum(file.metadata.row_group(group).total_byte_size for group in range(file.num_row_groups)) > MAX_BYTES:
                raise UserError(f"{name} unpacks to more than {MAX_BYTES // 10**9} GB. Split it into smaller files.")
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS):
                yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError):
        raise UserError(f"{name} is not a Parquet file, or it is damaged. Export or upload it again.") from None


def _read_arrow(path: Path, name: str) -> Iterator[pa.Table]:
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            try:
                file = pa.ipc.open_file(source)
                batches = (file.get_batch(number) for number in range(file.num_record_batches))
            except pa.ArrowInvalid:
                batches = pa.ipc.open_stream(source)  # what the datasets library saves
            for batch in batches:
                yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError):
        raise UserError(
            f"{name} is not an Arrow file, or it is damaged. Save it again, or upload it as Parquet."
        ) from None


def _read_sheet(path: Path, name: str, wanted: str | None) -> Iterator[dict | BrokenRow | Note]:
    """One sheet of an Excel file, `wanted` or the first: the row above the data names the columns, formulas are their last results."""
    import openpyxl

    try:
        with zipfile.ZipFile(path) as archive:
            if sum(part.file_size for part in archive.infolist()) > MAX_SHEET_BYTES:
                raise UserError(f"{name} unpacks to more than {MAX_SHEET_BYTES // 10**6} MB. Save the sheet as .csv.")
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except UserError:
        raise
    except Exception:  # openpyxl lets through whatever its parsers raise: KeyError, ValueError, ParseError, …
        raise UserError(f"{name} is not an Excel workbook, or it is damaged. Save it as .xlsx or .csv again.") from None
    try:
        if wanted and wanted not in book.sheetnames:
            raise UserError(f"{name} has no sheet “{wanted}”. Its sheets are: {', '.join(book.sheetnames)}.")
        sheet = book[wanted] if wanted else book.worksheets[0]
        if not wanted and len(book.worksheets) > 1:
            yield Note(
                f"{name} has {len(book.worksheets)} sheets; “{sheet.title}” was read. "
                "Name another under Sheet (dataset.sheet) if that is not the one."
            )
        sheet.reset_dimensions()
        yield from _sheet_rows(sheet.iter_rows(values_only=True, max_col=MAX_COLUMNS + 1), name)
    finally:
        book.close()


def _sheet_rows(rows: Iterator[tuple], name: str) -> Iterator[dict | BrokenRow | Note]:
    filled = ((number, cells) for number, cells in enumerate(rows, 1) if any(cell is not None for cell in cells))
    head = list(islice(filled, LOOKED_AT))
    if not head:
        return
    place = header_place([cells for _, cells in head])
    line, cells = head[place]
    header = _sheet_header(cells, name)
    if place:
        yield Note(f"{name}: the header was found in line {line}; the lines above it are left out.")
    for number, cells in chain(head[place + 1 :], filled):
        width = _width(cells, name)
        if width > len(header):
            yield BrokenRow(name, number, f"it has {width} cells, and the header names {len(header)} columns.", "row")
        else:
            yield dict(zip(header, [*cells[: len(header)], *[None] * (len(header) - len(cells))], strict=True))


def _sheet_header(cells: tuple, name: str) -> list[str]:
    named = cells[: _width(cells, name)]
    header = [str(cell).strip() if cell is not None else f"column_{place}" for place, cell in enumerate(named, 1)]
    if twice := next((column for column in header if header.count(column) > 1), None):
        raise UserError(f"{name} has two columns called “{twice}”. Rename one of them.")
    return header


def _width(cells: tuple, name: str) -> int:
    width = max(place for place, cell in enumerate(cells, 1) if cell is not None)
    if width > MAX_COLUMNS:
        raise UserError(f"{name} has more than {MAX_COLUMNS:,} columns.")
    return width
