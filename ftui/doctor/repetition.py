"""What is there more than once: duplicates, the same prompt with other answers, test rows among the training rows, one answer for all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from ftui.dataset import Rows
from ftui.doctor.near import near_duplicates
from ftui.doctor.problem import Problem, error, leave_out, warning
from ftui.doctor.texts import Texts
from ftui.template import PromptTemplate

_LABEL = 60  # characters; longer answers are no labels
_IMBALANCE = 10


def look_at_repetition(template: PromptTemplate, rows: Rows, texts: Texts) -> Iterator[Problem]:
    repeated = _repeated(texts)
    yield from warning(
        "duplicates",
        sorted(texts.rows[place] for place in repeated),
        "{rows}: the same prompt and answer as an earlier row. They weigh double.",
        leave_out(rows, [texts.rows[place] for place in repeated]),
    )
    yield from _near(rows, texts, repeated)
    if any(texts.asked):
        yield from _same_prompt(template, rows, texts)
    yield from _answers(texts)


def _repeated(texts: Texts) -> set[int]:
    """Places of the later ones, by row number."""
    first: dict[tuple[tuple[str, str], str], int] = {}
    later = set()
    for place in _by_row(texts):
        key = ((texts.systems[place], texts.asked[place]), texts.answers[place])
        if first.setdefault(key, place) != place:
            later.add(place)
    return later


def _by_row(texts: Texts) -> list[int]:
    return sorted(range(len(texts.rows)), key=texts.rows.__getitem__)


def _near(rows: Rows, texts: Texts, repeated: set[int]) -> Iterator[Problem]:
    places = [place for place in _by_row(texts) if place not in repeated]
    pairs = near_duplicates([texts.asked[place] for place in places], [texts.answers[place] for place in places])
    later = [texts.rows[places[other]] for _, other in pairs]
    first = "{} and {}".format(*(texts.rows[places[one]] + 1 for one in pairs[0])) if pairs else ""
    yield from warning(
        "near_duplicates",
        later,
        f"{{rows}}: nearly the same prompt and answer as an earlier row (such as {first}). They teach little and weigh double.",
        leave_out(rows, later),
    )


# the same prompt again


def _same_prompt(template: PromptTemplate, rows: Rows, texts: Texts) -> Iterator[Problem]:
    groups: dict[tuple[str, str], list[int]] = {}
    for place in _by_row(texts):
        groups.setdefault((_plain(texts.systems[place]), _plain(texts.asked[place])), []).append(place)
    if len(groups) == 1 and len(texts.rows) > 1:
        yield from error(
            "same_prompts",
            texts.rows,
            "All prompts are the same, so the model cannot tell what decides the answer. Put a column into the prompt.",
        )
        return
    again = [group for group in groups.values() if len(group) > 1]
    yield from _contradictions(rows, texts, again)
    yield from _leakage(template, rows, texts, again)


def _contradictions(rows: Rows, texts: Texts, again: list[list[int]]) -> Iterator[Problem]:
    groups = [group for group in again if len({_plain(texts.answers[place]) for place in group}) > 1]
    numbers = [texts.rows[place] for group in groups for place in group]
    yield from warning(
        "contradictions",
        numbers,
        f"{{rows}} ask {_few(groups)} with different answers. If only one is right, keep that; "
        "if all are, nothing is wrong, but an exact score cannot reach 100 %.",
        leave_out(rows, [texts.rows[place] for group in groups for place in group[1:]]),
    )


def _leakage(template: PromptTemplate, rows: Rows, texts: Texts, again: list[list[int]]) -> Iterator[Problem]:
    """Held-out rows whose prompt was trained on: the score would be that of memory."""
    groups = [group for group in again if len({texts.parts[place] == "train" for place in group}) > 1]
    leaked = [texts.rows[place] for group in groups for place in group if texts.parts[place] != "train"]
    tests = sum(texts.parts[place] == "test" for group in groups for place in group)
    column = next((name for name in template.prompt_columns if name in rows.columns), None)
    say = error if tests else warning
    yield from say(
        "leakage",
        leaked,
        f"{{rows}} of validation and test ({tests} of the test) have a prompt that is also trained on, so the score would be too good. "
        + (f"Keep rows with the same “{column}” on one side (split.group: {column}), or leave" if column else "Leave")
        + " repeated prompts out.",
        leave_out(rows, [texts.rows[place] for group in groups for place in group[1:]]),
    )


def _few(groups: Sequence[object]) -> str:
    return "the same" if len(groups) == 1 else f"{len(groups):,} things twice or more,"


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


# one answer for all


def _answers(texts: Texts) -> Iterator[Problem]:
    chats = [place for place, example in enumerate(texts.examples) if example.is_chat]
    counts = Counter(texts.answers[place].strip() for place in chats)
    if len(chats) < 2:
        return
    most, often = counts.most_common(1)[0]
    shown = most if len(most) <= _LABEL else most[:_LABEL] + "…"
    same = [texts.rows[place] for place in chats if texts.answers[place].strip() == most]
    if len(counts) == 1:
        yield from error(
            "same_completions",
            same,
            f"All answers are the same (“{shown}”), so there is nothing to learn. Check the completion.",
        )
    elif often / len(chats) > max(0.5, 1.6 / len(counts)):
        yield from warning(
            "dominating_answer",
            same,
            f"{often / len(chats):.0%} of the answers are “{shown}”: a model that always says so looks good. "
            "Add rows with other answers, and compare by macro-F1.",
        )
    if _are_labels(counts):
        rare = {label for label, count in counts.items() if count * _IMBALANCE < often}
        listed = ", ".join(f"“{label}” ({counts[label]})" for label in sorted(rare, key=lambda each: counts[each])[:3])
        yield from warning(
            "label_imbalance",
            [texts.rows[place] for place in chats if texts.answers[place].strip() in rare],
            f"{len(rare)} of {len(counts)} labels are rare: {listed}, while “{shown}” has {often}. "
            "Add rows for them, and divide with split.stratify.",
        )


def _are_labels(counts: Counter[str]) -> bool:
    return 1 < len(counts) <= counts.total() / 10 and max(map(len, counts)) <= _LABEL
