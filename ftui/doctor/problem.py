"""Problem, Fix and Setting: one finding of the doctor, and what one click can do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal, NamedTuple

from ftui.dataset import Rows
from ftui.errors import listed

SHOWN_ROWS = 1000
FEW = 0.05  # of the rows

Row = dict[str, object]


class Fix(NamedTuple):
    """`title`: what the button says. `rows`: the number of every row that changes. `mend`: None where they are left out."""

    title: str
    rows: tuple[int, ...]
    mend: Callable[[Row], Row] | None = None


class Setting(NamedTuple):
    """A fix that leaves the rows alone: the config takes `value` at `path`, such as split.test."""

    title: str
    path: str
    value: int


class Problem(NamedTuple):
    """`rows`: the first 1,000 row numbers, counted from 0 as in split.json; for unreadable lines, numbers of lines."""

    code: str
    severity: Literal["error", "warning"]
    count: int
    rows: list[int]
    message: str
    fix: Fix | Setting | None = None


def apply_fix(rows: Rows, problem: Problem) -> Rows:
    """The data set's own rows with the problem mended, or without those that have it: exactly what the fix names."""
    assert isinstance(problem.fix, Fix)
    fix, wanted = problem.fix, set(problem.fix.rows)
    if fix.mend is None:
        return rows.take([number for number in range(rows.own) if number not in wanted])
    own = islice(rows, rows.own)
    return Rows.gather(fix.mend(row) if number in wanted else row for number, row in enumerate(own))


def error(code: str, numbers: Sequence[int], sentence: str, fix: Fix | Setting | None = None) -> Iterator[Problem]:
    """The problem, if there are rows that have it. `{rows}` in the sentence says how many and which."""
    return _problem("error", code, numbers, sentence, fix)


def warning(code: str, numbers: Sequence[int], sentence: str, fix: Fix | Setting | None = None) -> Iterator[Problem]:
    return _problem("warning", code, numbers, sentence, fix)


def _problem(
    severity: Literal["error", "warning"], code: str, numbers: Sequence[int], sentence: str, fix: Fix | Setting | None
) -> Iterator[Problem]:
    if numbers:
        numbers = sorted(numbers)
        message = sentence.replace("{rows}", some_rows(numbers))
        changes = isinstance(fix, Setting) or (fix and fix.rows)
        yield Problem(code, severity, len(numbers), numbers[:SHOWN_ROWS], message, fix if changes else None)


def some_rows(numbers: Sequence[int], one: str = "row") -> str:
    """`row 5`, or `3 rows (5, 9, 12)`, counted from 1 as people do."""
    if len(numbers) == 1:
        return f"{one} {numbers[0] + 1}"
    return f"{len(numbers):,} {one}s ({listed((str(number + 1) for number in numbers), 5)})"


def leave_out(rows: Rows, numbers: Iterable[int], why: str) -> Fix | None:
    """`why`: what these rows have, so that several fixes can be told apart by their titles. None where no row would stay.

    Rows of a separate validation or test file stay: a fix writes the data set anew, and not those files.
    """
    dropped = tuple(sorted(number for number in numbers if number < rows.own))
    if len(dropped) == rows.own:
        return None
    return Fix(f"Leave out {_counted(dropped)}: {why}", dropped)


def leave_out_few(rows: Rows, numbers: Sequence[int], why: str) -> Fix | None:
    """None where they are more than a twentieth: nobody leaves out that much of the data by a click."""
    return leave_out(rows, numbers, why) if len(numbers) < FEW * len(rows) else None


def mend(rows: Rows, numbers: Iterable[int], title: str, change: Callable[[Row], Row]) -> Fix:
    """Only rows that the change really changes are announced: what stands in the template cannot be mended in the data."""
    candidates = sorted(number for number in numbers if number < rows.own)
    changed = tuple(number for number, row in zip(candidates, rows.take(candidates), strict=True) if change(row) != row)
    return Fix(f"{title} in {_counted(changed)}", changed, change)


def mend_texts(rows: Rows, numbers: Iterable[int], title: str, change: Callable[[str], str]) -> Fix:
    """A change of every text in a row, however deep."""

    def deep(value: object) -> object:
        if isinstance(value, str):
            return change(value)
        if isinstance(value, list):
            return [deep(inner) for inner in value]
        return {key: deep(inner) for key, inner in value.items()} if isinstance(value, dict) else value

    return mend(rows, numbers, title, lambda row: {column: deep(cell) for column, cell in row.items()})


def _counted(numbers: Sequence[int]) -> str:
    return "1 row" if len(numbers) == 1 else f"{len(numbers):,} rows"
