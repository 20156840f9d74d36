"""DatasetSource: where rows come from. A file, a folder, a pattern, several of them, or a data set on the Hub."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from ftui.dataset.formats import JSON, PROSE, Part, Reading, read, suffix_of
from ftui.dataset.hub import is_hub_id, read_hub
from ftui.dataset.rows import Note, Rows
from ftui.errors import UserError, listed
from ftui.settings import OptionalText, Settings, Whole

MAX_FILES = 100_000

_HOME = Path(__file__).parents[2]  # `samples/…` is found from wherever ftui was started


class DatasetSource(Settings):
    """Where rows come from and how they are read. `load` gives them, or says in a sentence why not."""

    path: str | tuple[str, ...] = Field(
        title="Data set", description="A file, a folder, a pattern such as data/*.csv, or a Hub id such as owner/name."
    )
    name: OptionalText = Field(None, title="Config", description="Of a Hub data set that has several.")
    split: str = Field(
        "train", min_length=1, title="Split", description="Of a Hub data set: train, or a part such as train[:500]."
    )
    revision: OptionalText = Field(
        None, title="Revision", description="Commit or branch of a Hub data set. Pin it to repeat a run exactly."
    )
    limit: Whole | None = Field(None, ge=1, title="Rows at most", description="Only the first rows are read.")
    records: OptionalText = Field(
        None, title="Record list", description="Where the rows are in a nested JSON file, such as data.paragraphs.qas."
    )
    sheet: OptionalText = Field(None, title="Sheet", description="Of an Excel file; the first if empty.")
    text_unit: Literal["line", "paragraph", "file"] = Field(
        "paragraph", title="A row of plain text is", description="A line, a block between blank lines, or a whole file."
    )

    @field_validator("path")
    @classmethod
    def _named(cls, path: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not path or isinstance(path, str) and not path.strip():
            raise ValueError("names no data set. Name a file, a folder or a Hub data set.")
        return path

    @property
    def paths(self) -> tuple[str, ...]:
        """One or several, without blanks around them."""
        return tuple(path.strip() for path in ((self.path,) if isinstance(self.path, str) else self.path))

    def load(self) -> Rows:
        """The rows. UserError says which file, line or setting is wrong; single rows that cannot be read are `problems`."""
        parts = (part for path in self.paths for part in self._read(path))
        return Rows.gather(chain(self._unused(), parts), self.limit, ", ".join(map(_shown, self.paths[:3])))

    def check_there(self) -> None:
        """UserError names, as it was given, the first path on this machine where nothing is. Opens nothing and asks nobody."""
        for path in self.paths:
            _check_written(path, path)
            if not (_place_of(path) or _is_pattern(path) or _is_remote(path)):
                raise _nothing_at(path)

    def _unused(self) -> Iterator[Note]:
        """Settings that would choose something, but not in what is read here."""
        kinds = {suffix_of(path) for path in self.paths}  # None where only a look shows it: a folder
        if self.records and None not in kinds and kinds.isdisjoint(JSON):
            yield Note("dataset.records is for nested JSON files, so it was not used.")
        if self.sheet and None not in kinds and ".xlsx" not in kinds:
            yield Note("dataset.sheet is for Excel files, so it was not used.")
        if any(_is_remote(path) and not _place_of(path) for path in self.paths):
            return
        if self.split != "train":
            yield Note(
                f"dataset.split is for data sets on the Hub, so “{self.split}” was not used. "
                "dataset.limit takes the first rows only."
            )
        for key in (key for key, value in (("name", self.name), ("revision", self.revision)) if value):
            yield Note(f"dataset.{key} is for data sets on the Hub, so it was not used.")

    def _read(self, path: str) -> Iterator[Part]:
        shown = _shown(path)
        _check_written(path, shown)
        found = _place_of(path)
        if found and os.path.isdir(found):
            yield from self._read_folder(Path(found), shown)
        elif found:
            yield from self._read_file(Path(found), shown)
        elif _is_pattern(path):
            yield from self._read_pattern(path, shown)
        elif _is_remote(path):
            yield from read_hub(path, self.name, self.split, self.revision, self.limit)
        else:
            raise _nothing_at(shown)

    def _read_file(self, path: Path, name: str) -> Iterator[Part]:
        if not path.is_file():
            raise UserError(f"{name} is not a file that can be read. Name a file, a folder or a Hub data set.")
        yield from read(path, name, Reading(self.records, self.sheet, self.text_unit))

    def _read_folder(self, folder: Path, shown: str) -> Iterator[Part]:
        """The folder's data files, those of its folders too; hidden files are none of it, and no link is followed out of it."""
        home = folder.resolve()
        files = []
        for path in sorted(Path(root, file) for root, _, names in os.walk(folder) for file in names):
            name = path.relative_to(folder).as_posix()
            if any(part.startswith(".") for part in name.split("/")):
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(home):
                yield Note(f"{name} was left out: it is a link that leads out of the folder.")
            else:
                files.append((path, name))
        yield from self._read_files(files, shown)

    def _read_pattern(self, pattern: str, shown: str) -> Iterator[Part]:
        for base in ("", str(_HOME)):
            found = list(islice(glob.iglob(pattern, root_dir=base or None, recursive=True), MAX_FILES + 1))
            if found:
                files = [(Path(base, each), _shown(each)) for each in sorted(found) if Path(base, each).is_file()]
                yield from self._read_files(files, shown)
                return
        raise UserError(f"No file fits the pattern “{shown}”. Check how it is written.")

    def _read_files(self, files: list[tuple[Path, str]], shown: str) -> Iterator[Part]:
        """Many files as one data set. They must be of one kind; what is no data is left out, and said."""
        if len(files) > MAX_FILES:
            raise UserError(f"“{shown}” holds more than {MAX_FILES:,} files. Choose fewer, or join them.")
        kinds: dict[str, list[tuple[Path, str]]] = {}
        for path, name in files:
            kinds.setdefault(suffix_of(name) or "", []).append((path, name))
        others = kinds.pop("", [])
        if any(suffix not in PROSE for suffix in kinds):
            others += [file for suffix in PROSE for file in kinds.pop(suffix, [])]
        if not kinds:
            raise UserError(
                f"“{shown}” holds no file that ftui reads. Put .csv, .json, .jsonl, .parquet, .xlsx or .txt files there."
            )
        if len(kinds) > 1:
            counts = " and ".join(f"{len(same)} {suffix}" for suffix, same in kinds.items())
            raise UserError(
                f"“{shown}” holds {counts} files. Choose one kind with a pattern, such as {shown}/*{next(iter(kinds))}."
            )
        if others:
            left_out = listed((name for _, name in others), 5)
            yield Note(f"Left out of “{shown}”, as they are no data: {left_out}.")
        for path, name in next(iter(kinds.values())):
            yield from self._read_file(path, name)


def _check_written(path: str, shown: str) -> None:
    if not path or "\0" in path or "\n" in path:
        raise UserError("The data set's path is empty or holds a line break. Name a file, a folder or a Hub data set.")
    if ".." in Path(path.replace("\\", "/")).parts:
        raise UserError(
            f"{shown}: a path must not hold “..”. Write it from the folder where ftui was started, or in full."
        )


def _place_of(path: str) -> str | None:
    return next((each for each in (path, str(_HOME / path)) if os.path.exists(each)), None)


def _is_pattern(path: str) -> bool:
    return any(letter in path for letter in "*?[")


def _is_remote(path: str) -> bool:
    return is_hub_id(path) and not suffix_of(path)


def _nothing_at(shown: str) -> UserError:
    return UserError(
        f"There is no file or folder “{shown}”, and it is not a Hub id such as owner/name. Check how it is written."
    )


def _shown(path: str) -> str:
    """A path as it may be said aloud: as it was given, or the last name of an absolute one."""
    return Path(path).name if os.path.isabs(path) or "\\" in path else path
