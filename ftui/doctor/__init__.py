"""The doctor: what is wrong with the data, how bad it is, in which rows, and what can be done about it.

It looks at rows that are rendered and encoded already, and changes nothing by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ftui.config import RunConfig
from ftui.dataset import Rows
from ftui.doctor.answers import labels_of, look_at_answers
from ftui.doctor.content import look_at_content
from ftui.doctor.problem import SHOWN_ROWS, Fix, Problem, Setting, apply_fix
from ftui.doctor.repetition import look_at_repetition
from ftui.doctor.shape import look_at_shape, roles_of
from ftui.doctor.supervision import Arrival, look_at_supervision
from ftui.doctor.survey import Survey
from ftui.doctor.unfilled import look_at_unfilled, unfilled_of
from ftui.encoding import Encoding
from ftui.examples import Examples

if TYPE_CHECKING:
    import numpy as np

__all__ = ["SHOWN_ROWS", "Examination", "Fix", "Problem", "Setting", "apply_fix", "examine", "suggested_epochs"]


class Examination(NamedTuple):
    """`problems`: errors first, and then by how many rows they touch.

    `messages`: how many each usable row has, the system prompt among them. `labels`: how often each answer is given, the
    commonest first, where answers are labels.
    """

    problems: list[Problem]
    messages: np.ndarray
    labels: dict[str, int]


def examine(config: RunConfig, encoding: Encoding, rows: Rows, examples: Examples) -> Examination:
    """Everything that was found.

    `rows` are those that `examples` were prepared from. Every row that is left out appears in at least one error.
    """
    survey = Survey.of(examples, [Arrival(encoding), unfilled_of, *([roles_of] if config.template.messages else [])])
    found = [
        *look_at_shape(config.template, rows, examples, survey),
        *look_at_supervision(config, encoding, rows, survey),
        *look_at_repetition(config.template, rows, survey),
        *look_at_answers(config.template, encoding, rows, survey),
        *look_at_content(encoding, rows, survey),
        *look_at_unfilled(rows, survey),
    ]
    problems = sorted(found, key=lambda problem: (problem.severity != "error", -problem.count, problem.code))
    return Examination(problems, survey.turns, labels_of(survey))


def suggested_epochs(rows: int) -> int:
    """OpenAI's rule: three epochs, more for fewer than 34 rows and fewer for more than 8,333, within 1 and 25."""
    if rows * 3 < 100:
        return min(25, 100 // max(rows, 1))
    return max(1, 25_000 // rows) if rows * 3 > 25_000 else 3
