"""CSV and TSV. Every cell stays text: `007`, `NA` and `None` are what somebody wrote."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Generator, Iterator
from itertools import chain, islice
from typing import Any

from ftui.dataset.header import LOOKED_AT, header_place
from ftui.dataset.rows import MAX_CELL, MAX_COLUMNS, BrokenRow, Note
from ftui.dataset.textfile import TextFile
from ftui.errors import UserError

_DELIMITERS = ",;\t|"
_SAMPLE = 65_536
# Comments, or a line that nothing divides, and nothing beneath it.
_TITLE = re.compile(r"\A(?:[^\n,;\t|]+\n(?:[ \r]*\n)+|(?:#.*\n)+)")
_NOWHERE = "\x1f"  # a delimiter that no text holds: the file has one column
_DOUBLED: dict[str, Any] = {}  # as RFC 4180 has it
_SPACED = {"skipinitialspace": True}
_ESCAPED = {"doublequote": False, "escapechar": "\\"}
_SINGLE = {"quotechar": "'"}
_NONE = {"quoting": csv.QUOTE_NONE}


def read_delimited(file: TextFile) -> Iterator[dict | BrokenRow | Note]:
    """Rows of the file. A line that does not fit the header is a BrokenRow; one column too many without text is not."""
    csv.field_size_limit(MAX_CELL)
    with file.open() as stream:
        sample = stream.read(_SAMPLE)
        stream.seek(0)
        delimiter = _delimiter(sample, file.name)
        quoting = _quoting(sample, delimiter)
        reader = csv.reader(stream, delimiter=delimiter, strict=True, **quoting)
        if quoting == _ESCAPED:
            yield Note(f"{file.name}: quotes inside cells are written with a backslash, and were read so.")
        records = _records(reader, file.name)
        head = list(islice((record for record in records if record[1]), LOOKED_AT))
        place = header_place([[] if isinstance(cells, str) else cells for _, cells in head])
        header = yield from _header(head[place:], file.name)
        if place:
            yield Note(f"{file.name}: the header was found in line {head[place][0]}; the lines above it are left out.")
        for line, cells in chain(head[place + 1 :], records):
            if isinstance(cells, str):
                reason = "the quotes are wrong: a cell goes on behind its last quote. Double every quote inside a quoted cell."
                yield BrokenRow(file.name, line, reason)
            elif len(cells) == len(header) or (len(cells) > len(header) and not any(cells[len(header) :])):
                yield dict(zip(header, cells, strict=False))
            elif cells:
                yield BrokenRow(
                    file.name, line, f"it has {len(cells)} cells, and the header names {len(header)} columns."
                )


def _records(reader, name: str) -> Iterator[tuple[int, list[str] | str]]:
    """Line number and cells, or the csv module's complaint about them."""
    while True:
        line = reader.line_num + 1
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "field larger" in str(error):
                raise UserError(
                    f"{name}, line {line}: a cell is larger than {MAX_CELL // 10**6} MB. Is a quote left open there?"
                ) from None
            if "unexpected end" in str(error):
                raise UserError(
                    f"{name}, line {line}: a quote opens there and never closes, so all after it is one cell. Close it, or double it."
                ) from None
            yield line, str(error)


def _header(records: list[tuple[int, list[str] | str]], name: str) -> Generator[Note, None, list[str]]:
    """The column names: yields what is worth knowing about them, returns them."""
    line, cells = records[0] if records else (1, [])
    if isinstance(cells, str) or not any(cells):
        raise UserError(f"{name}, line {line}: the first line must name the columns.")
    while not cells[-1].strip():
        cells.pop()
    header = [cell.strip() or f"column_{number}" for number, cell in enumerate(cells, 1)]
    if len(header) > MAX_COLUMNS:
        raise UserError(f"{name} has {len(header):,} columns; at most {MAX_COLUMNS:,} can be read.")
    if twice := next((column for column, count in Counter(header).items() if count > 1), None):
        places = " and ".join(str(place) for place, column in enumerate(header, 1) if column == twice)
        raise UserError(f"{name} has “{twice}” as the name of columns {places}. Rename one of them.")
    for number, cell in enumerate(cells, 1):
        if not cell.strip():
            yield Note(f"{name}: column {number} has no name; it is called column_{number}.")
    return header


def is_table(text: str) -> bool:
    """Whether all rows of this text have as many cells as the first, and that has several."""
    return any(_fit(text[:_SAMPLE], delimiter)[0] == 1 for delimiter in _DELIMITERS)


def _delimiter(sample: str, name: str) -> str:
    """The one that cuts most rows into as many cells as the header has; more cells where two do it equally well."""
    first = "\t" if ".tsv" in name.lower() else ","
    candidates = sorted(_DELIMITERS, key=lambda delimiter: delimiter != first)
    (fit, _), best = max(((_fit(sample, each), each) for each in candidates), key=lambda found: found[0])
    if fit:
        return best
    beneath_title = _TITLE.sub("", sample)
    return next((each for each in candidates if _fit(beneath_title, each)[0] == 1), _NOWHERE)


def _quoting(sample: str, delimiter: str) -> dict[str, Any]:
    """How quotes are written: the way in which most rows are whole, the usual one where several are as good."""
    header = next(csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter), [])
    if header and all(re.fullmatch(r"'.*'", cell.strip()) for cell in header):
        return _SINGLE
    ways = [_DOUBLED, _SPACED]
    # Where other letters stand behind a backslash, too, it is a letter of the data, as in \frac.
    if '\\"' in sample and not re.search(r'\\[^"]', sample.replace("\\\\", "")):
        ways.append(_ESCAPED)
    if delimiter == "\t":
        ways.append(_NONE)
    return max(ways, key=lambda way: _whole(sample, delimiter, way))


def _whole(sample: str, delimiter: str, way: dict[str, Any]) -> float:
    """Share of the rows that are as wide as the header and have no cell that still stands in quotes."""
    reader = csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter, strict=True, **way)
    rows: list[list[str]] = []
    while True:
        try:
            rows.append(next(reader))
        except StopIteration:
            break
        except csv.Error:
            rows.append([])
    rows = rows[:-1] if len(sample) == _SAMPLE else rows
    fitting = [cells for cells in rows if cells and len(cells) == len(rows[0])]
    return sum(not any(_is_quoted(cell.strip()) for cell in cells) for cells in fitting) / max(1, len(rows))


def _is_quoted(cell: str) -> bool:
    return len(cell) > 1 and cell[0] == cell[-1] == '"'


def _fit(sample: str, delimiter: str) -> tuple[float, int]:
    """Share of the rows that are as wide as the header, and that width; nothing for a single column."""
    try:
        widths = [len(cells) for cells in csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter) if cells]
    except csv.Error:
        return 0, 0
    if not widths or widths[0] < 2:
        return 0, 0
    complete = widths[:-1] if len(sample) == _SAMPLE else widths
    return complete.count(widths[0]) / max(1, len(complete)), widths[0]
