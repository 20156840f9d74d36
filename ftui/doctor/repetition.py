"""What is there more than once: duplicates, the same prompt with other answers, test rows among the training rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ftui.dataset import Rows
from ftui.doctor.near import near_duplicates
from ftui.doctor.problem import Problem, error, leave_out, warning
from ftui.doctor.survey import Survey
from ftui.template import PromptTemplate

if TYPE_CHECKING:
    import numpy as np


def look_at_repetition(template: PromptTemplate, rows: Rows, survey: Survey) -> Iterator[Problem]:
    repeated = [place for group in _groups(survey.whole) for place in group[1:]]
    numbers = survey.numbers(repeated)
    yield from warning(
        "duplicates",
        numbers,
        "{rows}: the same prompt and answer as an earlier row. What is there twice weighs double.",
        leave_out(rows, numbers, "the same again"),
    )
    yield from _near(rows, survey, repeated)
    if survey.is_chat.any():
        yield from _same_prompt(template, rows, survey)


def _groups(keys: np.ndarray) -> list[list[int]]:
    """Places with the same key, where there are several: each group in order, the groups by their first place."""
    import numpy as np

    order = np.argsort(keys, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(keys[order]) != 0])[: len(keys)])
    ends = np.append(starts[1:], len(keys))
    several = ends - starts > 1
    return sorted(order[start:end].tolist() for start, end in zip(starts[several], ends[several], strict=True))


def _near(rows: Rows, survey: Survey, repeated: Iterable[int]) -> Iterator[Problem]:
    import numpy as np
    import pyarrow as pa

    places = np.setdiff1d(np.arange(len(survey)), np.array(list(repeated), dtype=np.int64))
    chosen = pa.array(places)
    pairs = near_duplicates(survey.asked.take(chosen), survey.answers.take(chosen))
    later = survey.numbers(places[other] for _, other in pairs)
    first = "{} and {}".format(*(survey.rows[places[place]] + 1 for place in pairs[0])) if pairs else ""
    across = sum((survey.parts[places[one]] == 0) != (survey.parts[places[other]] == 0) for one, other in pairs)
    held_out = f" In {across:,} of these pairs one is trained on and the other held out." if across else ""
    yield from warning(
        "near_duplicates",
        later,
        f"{{rows}}: nearly the same prompt and answer as an earlier row (such as {first}). What is there twice teaches little and weighs double.{held_out}",
        leave_out(rows, later, "nearly the same again"),
    )


# the same prompt again


def _same_prompt(template: PromptTemplate, rows: Rows, survey: Survey) -> Iterator[Problem]:
    again = _groups(survey.asks)
    if len(again) == 1 and len(again[0]) == len(survey):
        yield from error(
            "same_prompts",
            survey.numbers(again[0]),
            "All prompts are the same, so the model cannot tell what decides the answer. Put a column into the prompt.",
        )
        return
    yield from _contradictions(rows, survey, again)
    yield from _leakage(template, rows, survey, again)


def _contradictions(rows: Rows, survey: Survey, again: list[list[int]]) -> Iterator[Problem]:
    groups = [group for group in again if len({int(survey.says[place]) for place in group}) > 1]
    yield from warning(
        "contradictions",
        survey.numbers(place for group in groups for place in group),
        f"{{rows}} ask {_few(groups)} with different answers. If only one is right, keep that; "
        "if all are, nothing is wrong, but an exact score cannot reach 100 %.",
        leave_out(rows, survey.numbers(place for group in groups for place in group[1:]), "other answers to a prompt"),
    )


def _leakage(template: PromptTemplate, rows: Rows, survey: Survey, again: list[list[int]]) -> Iterator[Problem]:
    """Held-out rows whose prompt was trained on: the score would be that of memory."""
    train, _, test = range(3)
    groups = [group for group in again if len({bool(survey.parts[place] == train) for place in group}) > 1]
    leaked = [place for group in groups for place in group if survey.parts[place] != train]
    tests = sum(int(survey.parts[place]) == test for place in leaked)
    column = next((name for name in template.prompt_columns if name in rows.columns), None)
    say = error if tests else warning
    yield from say(
        "leakage",
        survey.numbers(leaked),
        f"{{rows}} of validation and test ({tests} of the test): the prompt is trained on, too, so the score would be too good. "
        + (
            f"Keep rows with the same “{column}” on one side (split.group: {column}, under Data → Advanced: reading and splitting), "
            "or leave repeated prompts out."
            if column
            else "Leave repeated prompts out."
        ),
        leave_out(rows, survey.numbers(_repeated(rows, survey, groups)), "prompts that repeat"),
    )


def _repeated(rows: Rows, survey: Survey, groups: list[list[int]]) -> Iterator[int]:
    """All but the first of each group; where one stands in a file of its own, which no fix changes, it is what stays."""
    for group in groups:
        yield from group[1:] if survey.rows[group[-1]] < rows.own else group[:-1]


def _few(groups: Sequence[object]) -> str:
    return "the same" if len(groups) == 1 else f"{len(groups):,} things twice or more,"
