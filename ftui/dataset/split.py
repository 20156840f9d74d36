"""SplitSettings: which rows train, which steer the training, and which only judge it at the end."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from pydantic import Field, field_validator

from ftui.dataset.rows import Rows, canonical
from ftui.dataset.source import DatasetSource
from ftui.errors import UserError
from ftui.settings import OptionalText, Settings, Whole

_RANGE = re.compile(r"(\d+)\s*:\s*(\d+)")
_SIDES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "development", "eval"),
    "test": ("test", "testing", "holdout"),
}


@dataclass(frozen=True)
class Split:
    """Row numbers of each side, in rising order, and the rows they count: those given, then those of validation and test files."""

    rows: Rows
    train: list[int]
    validation: list[int]
    test: list[int]


class SplitSettings(Settings):
    """How rows are divided. The same rows, settings and seed give the same row numbers on every machine."""

    validation: float | int | str = Field(
        0.1,
        title="Validation",
        description="Watched while training: a share (0.1), a number of rows (200), a range (100:200) or a file.",
    )
    test: float | int | str = Field(
        0.1, title="Test", description="Held back for the verdict: a share, a number of rows, a range or a file."
    )
    seed: Whole = Field(42, ge=0, title="Seed", description="Another seed, other rows.")
    stratify: OptionalText = Field(
        None, title="Balance by", description="A column, such as the label: every side gets the same mixture."
    )
    group: OptionalText = Field(
        None,
        title="Keep together",
        description="A column, such as the author: rows that share a value stay on one side.",
    )
    column: OptionalText = Field(
        None, title="Split column", description="A column that says train, validation or test; it then decides alone."
    )

    @field_validator("validation", "test", mode="before")
    @classmethod
    def _amount(cls, value: object) -> object:
        """What a text box says: `0.1`, `10%`, `200`, `100:200`, a file, or nothing."""
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError("must be a share, a number of rows, a range or a file.")
        if isinstance(value, str):
            text = value.strip()
            if re.fullmatch(r"\d*\.?\d+\s*%", text):
                value = float(text.rstrip("% ")) / 100
            elif re.fullmatch(r"-?\d+", text):
                value = int(text)
            elif re.fullmatch(r"-?(\d+\.?\d*|\.\d+)(e-?\d+)?", text, re.IGNORECASE):  # YAML 1.1 reads 1e-1 as text
                value = float(text)
            else:
                value = text or 0
        if isinstance(value, float) and value > 1 and value.is_integer():
            value = int(value)
        if isinstance(value, str):
            if (ends := _RANGE.fullmatch(value)) and int(ends[1]) >= int(ends[2]):
                raise ValueError(f"the range {value} is empty. Write first:last, as in 100:200.")
        elif value < 0 or (isinstance(value, float) and not value < 1):
            raise ValueError(f"{value} is no share (0 to below 1) and no whole number of rows.")
        return value

    def apply(self, rows: Rows, columns: Sequence[str] | None = None) -> Split:
        """Row numbers of train, validation and test. Rows that are exactly alike, or share a group, land on one side.

        `columns`: those that make rows alike, because they are learned; an `id` of its own tells no rows apart. Without
        them, all do. Only ranges, files and a split column can tear equal rows apart, for there the user decides.
        """
        for column in (self.stratify, self.group, self.column):
            if column and column not in rows.columns:
                raise UserError(
                    f"The split names the column “{column}”, which is not there. The columns are: {', '.join(rows.columns)}."
                )
        if self.column:
            return self._by_column(rows)
        rest, fixed = range(len(rows)), {}
        for side in ("test", "validation"):
            amount = getattr(self, side)
            if not isinstance(amount, str):
                continue
            if ends := _RANGE.fullmatch(amount):
                fixed[side] = _range(side, int(ends[1]), int(ends[2]), len(rest))
            else:
                rows, fixed[side] = _appended(rows, amount, side)
        if overlap := set(fixed.get("test", ())) & set(fixed.get("validation", ())):
            raise UserError(f"Validation and test share {len(overlap)} rows. Choose ranges that do not overlap.")
        taken = {number for numbers in fixed.values() for number in numbers}
        compared = rows.columns if columns is None else columns
        chosen = self._draw(rows, [number for number in rest if number not in taken], compared)
        return Split(
            rows, chosen["train"], fixed.get("validation", chosen["validation"]), fixed.get("test", chosen["test"])
        )

    def _draw(self, rows: Rows, numbers: list[int], columns: Sequence[str]) -> dict[str, list[int]]:
        """Draws test, then validation, in whole units; what is left trains."""
        units = self._units(rows, numbers, columns)
        drawn: dict[str, list[int]] = {}
        for side in ("test", "validation"):
            wanted = self._wanted(side, len(numbers))
            drawn[side] = _take(units, wanted)
            if wanted and not (drawn[side] and units):
                raise UserError(
                    f"The rows ({len(numbers)}) cannot be divided into train, validation and test as the split asks. "
                    "Add rows, choose smaller sides (0 turns one off), or another column to keep together."
                )
        drawn["train"] = sorted(number for unit in units for number in unit)
        if not drawn["train"]:
            raise UserError("No row is left to train on. Make validation and test smaller.")
        return drawn

    def _wanted(self, side: str, count: int) -> int:
        amount = getattr(self, side)
        if isinstance(amount, str) or not amount:
            return 0
        if isinstance(amount, float):
            return max(1, round(count * amount))
        if amount >= count:
            raise UserError(
                f"The {side} side asks for {amount:,} of {count:,} rows, which leaves none to train on. Make it smaller."
            )
        return amount

    def _units(self, rows: Rows, numbers: list[int], columns: Sequence[str]) -> list[list[int]]:
        """What must stay together, shuffled; with `stratify`, so that every stretch of the list has the same mixture."""
        wanted = set(numbers)
        units: dict[object, list[int]] = {}
        strata: dict[int, str] = {}
        for number, row in enumerate(rows):
            if number in wanted:
                grouped = self.group and row[self.group] not in (None, "")
                alike = {name: row[name] for name in columns}
                unit = str(row[self.group]) if grouped else sha256(canonical(alike)).digest()
                units.setdefault(unit, []).append(number)
                strata[number] = str(row[self.stratify]) if self.stratify else ""
        shuffled = list(units.values())
        random.Random(self.seed).shuffle(shuffled)
        by_stratum: dict[str, list[list[int]]] = {}
        for unit in shuffled:
            by_stratum.setdefault(strata[unit[0]], []).append(unit)
        # The n-th of m units of a stratum stands at (n + ½) / m of the way, whatever the stratum's size.
        placed = [((place + 0.5) / len(same), unit) for same in by_stratum.values() for place, unit in enumerate(same)]
        return [unit for _, unit in sorted(placed, key=lambda each: each[0])]

    def _by_column(self, rows: Rows) -> Split:
        sides: dict[str, list[int]] = {side: [] for side in _SIDES}
        for number, row in enumerate(rows):
            said = "" if row[self.column] is None else str(row[self.column]).strip().lower()
            side = next((side for side, words in _SIDES.items() if said in words), None)
            if side is None:
                raise UserError(
                    f"Row {number + 1} says “{said[:40]}” in the split column “{self.column}”. It must be train, validation or test."
                )
            sides[side].append(number)
        if not sides["train"]:
            raise UserError(f"No row says train in the split column “{self.column}”.")
        return Split(rows, **sides)


def _take(units: list[list[int]], wanted: int) -> list[int]:
    """Removes units that make up `wanted` rows, no more, and returns their rows; the smallest unit where none fits."""
    taken: list[int] = []
    left: list[list[int]] = []
    for unit in units:
        if len(taken) + len(unit) <= wanted:
            taken += unit
        else:
            left.append(unit)
    if wanted and not taken and left:
        taken = min(left, key=len)
        left.remove(taken)
    units[:] = left
    return sorted(taken)


def _range(side: str, first: int, last: int, count: int) -> list[int]:
    if last > count:
        raise UserError(f"The {side} range {first}:{last} goes beyond the {count:,} rows there are.")
    return list(range(first, last))


def _appended(rows: Rows, path: str, side: str) -> tuple[Rows, list[int]]:
    """The rows of a file after those that are there, and their numbers."""
    more = DatasetSource(path=path).load()
    if not set(more.columns) & set(rows.columns):
        raise UserError(
            f"The {side} file has other columns ({', '.join(more.columns)}) than the training rows ({', '.join(rows.columns)})."
        )
    return rows.followed_by(more), list(range(len(rows), len(rows) + len(more)))
