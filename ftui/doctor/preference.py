"""The two sides of preference data: whether each row really has a better and a worse answer to one question.

Plain fine-tuning learns only the preferred answers; what makes a pair of no use says something about those, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ftui.dataset import Rows
from ftui.doctor.problem import Problem, leave_out, warning
from ftui.encoding import Message
from ftui.errors import UserError
from ftui.template.conversation import is_conversation, read_conversation
from ftui.template.placeholders import as_text

_ENOUGH = 50  # pairs, to tell what is usual
_LONGER, _TIMES = 0.8, 1.5  # of the pairs, and as long

_SENTENCES = {
    "chosen_is_rejected": (
        "{rows}: the preferred answer is the rejected one, so neither can be trusted.",
        "preferred and rejected alike",
    ),
    "rejected_is_empty": (
        "{rows}: there is no rejected answer, so nothing says that the other one is better. Leave such rows out, or see what was lost.",
        "no rejected answer",
    ),
    "prompts_differ": (
        "{rows}: the preferred and the rejected answer belong to different prompts, so they cannot be compared. Leave such rows out.",
        "different prompts of one pair",
    ),
}


class Pairs:
    """What is seen of the pairs, row by row. `sides`: the columns of the preferred and of the rejected answer."""

    def __init__(self, sides: tuple[str, str]) -> None:
        self.sides = sides
        self.found: dict[str, list[int]] = {}
        self.longer: list[int] = []
        self.count = 0

    def look(self, number: int, row: dict[str, object]) -> None:
        (asked, chosen), (other, rejected) = (_side(row[column]) for column in self.sides)
        if row[self.sides[0]] == row[self.sides[1]]:
            self.found.setdefault("chosen_is_rejected", []).append(number)
        elif not rejected.strip():
            self.found.setdefault("rejected_is_empty", []).append(number)
        elif asked != other:
            self.found.setdefault("prompts_differ", []).append(number)
        elif chosen.strip():
            self.count += 1
            if len(chosen) >= _TIMES * len(rejected):
                self.longer.append(number)

    def problems(self, rows: Rows) -> Iterator[Problem]:
        for code, (sentence, why) in _SENTENCES.items():
            numbers = self.found.get(code, [])
            yield from warning(code, numbers, sentence, leave_out(rows, numbers, why))
        share = len(self.longer) / max(self.count, 1)
        if self.count >= _ENOUGH and share >= _LONGER:
            yield from warning(
                "length_bias",
                self.longer,
                f"In {share:.0%} of the pairs the preferred answer is at least half as long again as the rejected one. "
                "Whoever learns from them learns to say much: see whether that is why it was preferred.",
            )


def _side(cell: object) -> tuple[Sequence[Message], str]:
    """What was said before, and the answer; nothing before where the cell is the answer alone."""
    if isinstance(cell, dict):
        cell = [cell]
    if not is_conversation(cell):
        return [], "" if cell in (None, [], {}) else as_text(cell)
    try:
        *before, last = read_conversation(cell, "")
    except UserError:  # an empty turn, which is told by itself where it is learned
        return [], ""
    return before, str(last.get("content") or last.get("tool_calls") or "")
