"""TextFile: a text file, packed or not, whose encoding is known and which is neither binary nor a bomb."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TextIO

from ftui.dataset.rows import MAX_BYTES
from ftui.errors import UserError

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_BINARIES = (
    (b"PK\x03\x04", "a ZIP archive or an Office file. Unpack it, or give it its own ending (.xlsx)"),
    (b"\x1f\x8b", "packed with gzip. Give it the ending .gz"),
    (b"PAR1", "a Parquet file. Give it the ending .parquet"),
    (b"ARROW1", "an Arrow file. Give it the ending .arrow"),
    (b"%PDF", "a PDF. Export its text first"),
    (b"\xd0\xcf\x11\xe0", "an old Office file. Save it as .xlsx or .csv"),
    (b"SQLite format 3", "a SQLite database. Export a table as .csv"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"\x7fELF", "a program"),
)
_CHUNK = 1 << 20


@dataclass(frozen=True)
class TextFile:
    path: Path
    name: str
    encoding: str
    packed: bool

    @classmethod
    def survey(cls, path: Path, name: str) -> TextFile:
        """Reads the file through once, in pieces. UserError when it is empty, binary, damaged or unpacks beyond the bound."""
        packed = name.lower().endswith(".gz")
        try:
            with _open(path, packed) as file:
                return cls(path, name, _encoding(file, name), packed)
        except (gzip.BadGzipFile, zlib.error, EOFError):
            raise UserError(f"{name} is damaged: it cannot be unpacked. Upload it again.") from None
        except OSError as error:
            raise UserError(f"{name} cannot be read: {error.strerror or 'the disk refused'}.") from None

    def open(self) -> TextIO:
        """Line ends stay as they are, for cells may hold some."""
        return io.TextIOWrapper(_open(self.path, self.packed), encoding=self.encoding, newline="")

    @property
    def guessed(self) -> str | None:
        """A sentence where the encoding is a guess."""
        if self.encoding in ("cp1252", "latin-1"):
            return f"{self.name} is not UTF-8; it was read as {self.encoding}. If letters look wrong, save it as UTF-8."
        return None


def _open(path: Path, packed: bool) -> IO[bytes]:
    return gzip.open(path, "rb") if packed else path.open("rb")


def _encoding(file: IO[bytes], name: str) -> str:
    """Marked; else UTF-8 if all of it is; else what Windows writes."""
    first = file.read(_CHUNK)
    if not first.strip():
        raise UserError(f"{name} is empty. Choose a file with rows in it.")
    if kind := next((kind for mark, kind in _BINARIES if first.startswith(mark)), None):
        raise UserError(f"{name} is not text but {kind}.")
    encoding = next((encoding for mark, encoding in _MARKS if first.startswith(mark)), None) or _unmarked_utf16(first)
    candidates = {
        each: codecs.getincrementaldecoder(each)()
        for each in ([encoding] if encoding else ["utf-8", "cp1252", "latin-1"])
    }
    size = lines = 0
    chunk = first
    while chunk:
        size += len(chunk)
        if size > MAX_BYTES:
            raise UserError(f"{name} holds more than {MAX_BYTES // 10**9} GB. Split it into smaller files.")
        if not encoding and b"\0" in chunk:
            line = lines + chunk[: chunk.index(b"\0")].count(b"\n") + 1
            raise UserError(
                f"{name}, line {line}: there is a NUL byte, so this is no text, or it is damaged. Export it again."
            )
        lines += chunk.count(b"\n")
        following = file.read(_CHUNK)
        for each in [each for each, decoder in candidates.items() if not _decodes(decoder, chunk, final=not following)]:
            del candidates[each]
        if not candidates:
            raise UserError(f"{name} claims to be {encoding.upper()}, but is not. Save it as UTF-8.")
        chunk = following
    return next(iter(candidates))


def _decodes(decoder: codecs.IncrementalDecoder, chunk: bytes, final: bool) -> bool:
    try:
        decoder.decode(chunk, final)
    except UnicodeDecodeError:
        return False
    return True


def _unmarked_utf16(first: bytes) -> str | None:
    """UTF-16 without its mark: Latin letters then leave every other byte zero."""
    head = first[:1000]
    for start, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if len(head) > 3 and head[start::2].count(0) > 0.8 * len(head[start::2]) and head[1 - start :: 2].count(0) == 0:
            return encoding
    return None
