"""Columns: the columns of a data set by the names that such columns usually have, and by what stands in their first rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from ftui.errors import UserError
from ftui.template.conversation import is_conversation
from ftui.template.placeholders import parsed

# How data sets call the preferred and the rejected answer.
_SIDES = (
    ("chosen", "rejected"), ("preferred_output", "non_preferred_output"), ("preferred_completion", "non_preferred_completion"),
    ("chosen_response", "rejected_response"), ("response_chosen", "response_rejected"), ("accepted", "rejected"),
    ("preferred", "dispreferred"), ("preferred", "rejected"), ("preferred_response", "rejected_response"), ("winner", "loser"),
    ("answer_chosen", "answer_rejected"), ("chosen_answer", "rejected_answer"), ("text", "rejected_text"),
)  # fmt: skip


def as_verdict(cell: object) -> bool | None:
    """A cell that is true or false, as text too; None for any other: 0 and 1 may be any label.

    A list of them, one for each step of an answer, is true where all are.
    """
    words = {"true": True, "false": False}
    if isinstance(steps := _listed(cell), list):
        verdicts = [as_verdict(step) for step in steps]
        return all(verdicts) if verdicts and None not in verdicts else None
    return cell if isinstance(cell, bool) else words.get(cell.strip().casefold()) if isinstance(cell, str) else None


def _listed(cell: object) -> object:
    """The list that stands in a cell as text, or the cell."""
    if not isinstance(cell, str) or not cell.lstrip().startswith("["):
        return cell
    try:
        return parsed(cell, "", "")
    except UserError:
        return cell


def _is_text(cell: object) -> bool:
    return isinstance(cell, str) and not is_conversation(cell)


class Columns:
    """The columns of a data set by their usual names. A name fits as a whole or not at all: “text” is not in “context”."""

    def __init__(self, columns: Sequence[str], head: list[dict]) -> None:
        self.all = columns
        self.head = head
        self._by_name = {re.sub(r"[\s-]+", "_", column.strip().casefold()): column for column in reversed(columns)}

    def one(self, *wanted: str) -> str | None:
        """The first of these names that is a column, as the data set writes it."""
        return next((self._by_name[name] for name in wanted if name in self._by_name), None)

    def first(self, column: str | None) -> object:
        """The first cell of a column that is not empty."""
        return next((row[column] for row in self.head if column and row[column] not in (None, "", [], {})), None)

    def some(self, column: str) -> list[object]:
        """The first cells of a column that are not empty."""
        return [row[column] for row in self.head if row[column] not in (None, "", [], {})]

    @property
    def filled(self) -> list[str]:
        """The columns that have a cell that is not empty."""
        return [column for column in self.all if self.first(column) is not None]

    def conversation(self, *wanted: str) -> str | None:
        return self._fitting(wanted, is_conversation)

    @property
    def system(self) -> str | None:
        """Or the place in it, where it is the message that Gemini's data have."""
        column = self.one("systeminstruction", "system_instruction")
        if isinstance(self.first(column), dict):
            return f"{column}.parts[0].text"
        return self.text("system", "system_prompt", "system_message", "system_instruction")

    @property
    def verdict(self) -> str | None:
        """The column that says of each answer, or of each of its steps, whether it is wanted: true or false, in KTO's data."""
        names = ("label", "kto_tag", "is_good", "is_correct", "is_chosen", "desirable", "thumbs_up")
        column = self.one(*names, "labels") if self.steps else self.one(*names)
        cells = self.some(column) if column else []
        return column if cells and all(as_verdict(cell) is not None for cell in cells) else None

    @property
    def steps(self) -> str | None:
        """The column that holds an answer step by step, as a list of texts."""
        column = self.one("completions", "steps")
        steps = _listed(self.first(column))
        return column if isinstance(steps, list) and steps and all(isinstance(step, str) for step in steps) else None

    @property
    def sides(self) -> tuple[str, str] | None:
        """The columns of the preferred and of the rejected answer."""
        for names in _SIDES:
            chosen, rejected = map(self.one, names)
            if chosen and rejected:
                return chosen, rejected
        return None

    def answer(self, *wanted: str) -> str | None:
        """A column of texts, or of numbers and of true and false, unless these only point into a list of choices."""
        points = self.one("choices", "options")
        return self._fitting(wanted, lambda cell: _is_text(cell) or isinstance(cell, int | float) and not points)

    def text(self, *wanted: str) -> str | None:
        return self._fitting(wanted, _is_text)

    def _fitting(self, wanted: Sequence[str], fits: Callable[[object], bool]) -> str | None:
        """The first of these columns whose first cell fits: one of the usual names may hold something else."""
        columns = (self.one(name) for name in wanted)
        return next((column for column in columns if column and fits(self.first(column))), None)
