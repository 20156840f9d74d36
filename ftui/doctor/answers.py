"""What all answers and prompts have in common, and which of them stand out: one answer for all, rare labels, refusals, lengths, boilerplate."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from os.path import commonprefix
from typing import TYPE_CHECKING

from ftui.dataset import Rows
from ftui.doctor.problem import Fix, Problem, error, leave_out, mend, warning
from ftui.doctor.survey import Survey
from ftui.encoding import Encoding
from ftui.template import PromptTemplate
from ftui.template.placeholders import Placeholder, names, parse

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

_LABEL = 60  # characters; longer answers are no labels
_IMBALANCE = 10
_REFUSED = 0.005  # of the answers
_ENOUGH = 50  # rows, to tell what is usual
_FAR = 4.0  # times the spread of the middle half, of logarithms
_BOILERPLATE = 10  # characters
# What ended prompts and answers before there were chat templates.
_MARK = re.compile(r"\s*(?:#{2,}|[-=]+>|\b(?:END|STOP))\s*$")
_BLANK_FIRST = r"^ \S"  # one blank, as OpenAI's completions began; more than one is how code is indented
_SHARES = {"prompt": "{share} of the prompts", "answer": "{share} of the answers"}
_CAPITALS = r"^(?:\P{Ll}*\p{Lu}){10}\P{Ll}*$"  # ten capitals and no small letter

_REFUSAL = (
    r"(?i)^\W*(?:(?:I[’']m|I am) (?:very |so |really )?sorry|sorry|I apologi[sz]e|unfortunately|lo siento|lamentablemente|disculpa)?\W*(?:but |pero )?"
    r"(?:(?:as|being) an? (?:AI|artificial intelligence|(?:large )?language model)\b"
    r"|I (?:can(?:no|['’])t|won['’]t) (?:assist|help|fulfil|comply|provide|do that|engage|create|generate|order|book|perform)"
    r"|I(?:['’]m| am) (?:currently )?(?:unable|not able) to"
    r"|I (?:currently )?(?:do not|don['’]t) (?:currently )?have (?:the (?:ability|capability|capabilities)|access)"
    r"|como (?:una? )?(?:IA|inteligencia artificial|modelo de lenguaje|asistente virtual)\b"
    r"|no puedo (?:ayudar|asistir|cumplir|proporcionar|realizar|responder)|no tengo (?:la capacidad|acceso))"
)


def look_at_answers(template: PromptTemplate, encoding: Encoding, rows: Rows, survey: Survey) -> Iterator[Problem]:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    chats = np.flatnonzero(survey.is_chat)
    if len(chats) < 2:
        return
    numbers = survey.rows[chats]
    asked, written = (texts.take(pa.array(chats)) for texts in (survey.asked, survey.answers))
    answers = pc.utf8_trim_whitespace(written)
    counts = {each["values"]: each["counts"] for each in _commonest(answers)}
    yield from _one_answer(numbers, answers, counts, pc.count_distinct(answers).as_py())
    are_labels = _are_labels(counts, len(chats))
    if are_labels:
        yield from _labels(numbers, answers, counts)
    yield from _refusals(rows, numbers, answers)
    sides = [("prompt", template.prompt, asked), ("answer", template.completion, answers)]
    yield from _capitals(rows, numbers, sides[:1] if are_labels else sides)
    yield from _blank_first(template, encoding, rows, numbers, written)
    if len(chats) >= _ENOUGH:
        if not are_labels:
            yield from _lengths(rows, numbers, answers)
        for side, written_as, texts in sides:
            yield from _boilerplate(side, written_as, rows, numbers, texts, are_labels)


def labels_of(survey: Survey) -> dict[str, int]:
    """How often each answer is given, the commonest first, where answers are labels; nothing where they are not."""
    import pyarrow as pa
    import pyarrow.compute as pc

    answers = pc.utf8_trim_whitespace(survey.answers.filter(pa.array(survey.is_chat)))
    counts = {each["values"]: each["counts"] for each in _commonest(answers)} if len(answers) else {}
    return counts if _are_labels(counts, len(answers)) else {}


def _are_labels(counts: dict[str, int], total: int) -> bool:
    return 1 < len(counts) <= total / 10 and max(map(len, counts)) <= _LABEL


def _commonest(answers: pa.ChunkedArray) -> list[dict]:
    """Answers with their counts, the most frequent first; one of all, where nearly every row has its own."""
    import pyarrow.compute as pc

    counted = pc.value_counts(answers)
    kept = len(counted) if len(counted) <= len(answers) / 10 else 1
    return counted.take(pc.select_k_unstable(counted.field("counts"), kept, [("", "descending")])).to_pylist()


def _shown(text: str) -> str:
    text = text.replace("\n", "↵")
    return text if len(text) <= _LABEL else text[:_LABEL] + "…"


def _which(numbers: np.ndarray, answers: pa.ChunkedArray, wanted: list[str]) -> list[int]:
    """The numbers of the rows with one of these answers."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.is_in(answers, pa.array(wanted, pa.large_string()))
    return numbers[found.to_numpy()].tolist()


def _one_answer(
    numbers: np.ndarray, answers: pa.ChunkedArray, counts: dict[str, int], different: int
) -> Iterator[Problem]:
    most, often = next(iter(counts.items()))
    share = often / len(answers)
    if different == 1:
        yield from error(
            "same_completions",
            _which(numbers, answers, [most]),
            f"All answers are the same (“{_shown(most)}”), so there is nothing to learn. Check the completion.",
        )
    elif share > max(0.5, 1.6 / different):
        yield from warning(
            "dominating_answer",
            _which(numbers, answers, [most]),
            f"{share:.0%} of the answers are “{_shown(most)}”: a model that always says so looks good. "
            "Add rows with other answers, and compare by macro-F1.",
        )


def _labels(numbers: np.ndarray, answers: pa.ChunkedArray, counts: dict[str, int]) -> Iterator[Problem]:
    most, often = next(iter(counts.items()))
    rare = [label for label, count in reversed(counts.items()) if count * _IMBALANCE < often]
    listed = ", ".join(f"“{label}” ({counts[label]})" for label in rare[:3])
    yield from warning(
        "label_imbalance",
        _which(numbers, answers, rare),
        f"Rare labels ({len(rare)} of {len(counts)}): {listed}, while “{most}” has {often}. "
        "Add rows for them, and divide with split.stratify.",
    )


def _refusals(rows: Rows, numbers: np.ndarray, answers: pa.ChunkedArray) -> Iterator[Problem]:
    import pyarrow.compute as pc

    refused = numbers[pc.match_substring_regex(answers, _REFUSAL).to_numpy()].tolist()
    share = len(refused) / len(numbers)
    if share >= _REFUSED:
        yield from warning(
            "refusals",
            refused,
            f"{{rows}}: the answer declines (“As an AI …”, “No puedo …”): {share:.1%} of all. A model learns that quickly. "
            "Keep as many as there will be such requests.",
            leave_out(rows, refused, "answers that decline"),
        )


def _lengths(rows: Rows, numbers: np.ndarray, answers: pa.ChunkedArray) -> Iterator[Problem]:
    """Answers far longer or shorter than the rest. Where many are, that is how the data is."""
    import numpy as np
    import pyarrow.compute as pc

    lengths = np.log(pc.utf8_length(answers).to_numpy() + 1.0)
    low, middle, high = np.quantile(lengths, [0.25, 0.5, 0.75])
    reach = _FAR * max(high - low, 0.6)
    odd = numbers[(lengths > high + reach) | (lengths < low - reach)].tolist()
    if len(odd) <= max(3, 0.02 * len(numbers)):
        yield from warning(
            "answer_length",
            odd,
            f"{{rows}}: the answer is far longer or shorter than the others (half have up to {np.exp(middle) - 1:,.0f} characters). "
            "See whether something was cut off or got in.",
            leave_out(rows, odd, "answers of an odd length"),
        )


# how they are written


def _capitals(rows: Rows, numbers: np.ndarray, sides: list[tuple[str, str, pa.ChunkedArray]]) -> Iterator[Problem]:
    """Texts without a small letter, where they are over a third. SQL and the like has capitals, but not only."""
    import pyarrow.compute as pc

    found = [(side, template, pc.match_substring_regex(texts, _CAPITALS).to_numpy()) for side, template, texts in sides]
    found = [(side, template, loud) for side, template, loud in found if loud.mean() > 1 / 3]
    if found:
        said = " and ".join(_SHARES[side].format(share=f"{loud.mean():.0%}") for side, _, loud in found)
        columns = {name for _, template, _ in found for name in names(parse(template)) if name in rows.columns}

        def lower(row: dict[str, object]) -> dict[str, object]:
            return row | {name: row[name].lower() for name in columns if isinstance(row[name], str)}

        loud = numbers[sum(loud for _, _, loud in found) > 0].tolist()
        yield from warning(
            "capitals",
            loud,
            f"{said} are written in capitals. Models have read little of that and do worse with it: "
            "write them in small letters, unless people will write to the model that way.",
            mend(rows, loud, "Write in small letters", lower),
        )


def _blank_first(
    template: PromptTemplate, encoding: Encoding, rows: Rows, numbers: np.ndarray, written: pa.ChunkedArray
) -> Iterator[Problem]:
    """Answers with the blank before them that models wanted which knew no chat template."""
    import pyarrow.compute as pc

    found = numbers[pc.match_substring_regex(written, _BLANK_FIRST).to_numpy()].tolist()
    if len(found) > len(numbers) / 2 and _keeps_blanks(encoding):
        first = next((piece for piece in parse(template.completion) if piece), None)
        column = first.name if isinstance(first, Placeholder) and first.name in rows.columns else None

        def strip(row: dict[str, object]) -> dict[str, object]:
            return {**row, column: row[column].lstrip(" ")} if column and isinstance(row[column], str) else row

        yield from warning(
            "blank_first",
            found,
            "{rows}: the answer begins with a blank, so the model learns to begin with one. Leave it out.",
            mend(rows, found, "Leave the blank out", strip),
        )


def _keeps_blanks(encoding: Encoding) -> bool:
    plain, blank = ([{"role": "user", "content": "?"}, {"role": "assistant", "content": each}] for each in ("a", " a"))
    one, other = encoding.encode([plain, blank])
    return one.input_ids != other.input_ids


# what all begin and end with


def _boilerplate(
    side: str, template: str, rows: Rows, numbers: np.ndarray, texts: pa.ChunkedArray, are_labels: bool
) -> Iterator[Problem]:
    begins, ends = _in_common(texts, template)
    mark = _MARK.search(ends)
    if side == "prompt":
        begins, long_end = (text if len(text.split()) > 3 else "" for text in (begins, ends))
        sentence = "All prompts {words}. Whoever asks the model later has to write it, too: leave it out of the rows, and say it in the template instead."
        title = "Remove what all prompts share"
    else:
        is_told = max(len(begins), len(ends)) >= _BOILERPLATE and not are_labels and not _is_json(texts[0].as_py())
        begins, long_end = (begins, ends) if is_told else ("", "")
        sentence = "All answers {words}. That is learned in every row and teaches nothing: leave it out, unless it belongs to the answer."
        title = "Remove what all answers share"
    ends = long_end or (mark[0] if mark else "")
    if begins or ends:
        yield from warning(
            f"common_{side}_text",
            numbers.tolist(),
            sentence.format(words=_both(begins, ends)),
            _strip(template, rows, begins, ends, title),
        )


def _in_common(texts: pa.ChunkedArray, template: str) -> tuple[str, str]:
    """What all texts begin and end with, without what the template writes itself. At most 200 characters of each."""
    import pyarrow.compute as pc

    heads, tails = pc.utf8_slice_codeunits(texts, 0, 200), pc.utf8_reverse(pc.utf8_slice_codeunits(texts, -200, None))
    begins = _shared(heads).removeprefix(_literal(template, 0).lstrip())
    ends = _shared(tails)[::-1].removesuffix(_literal(template, -1).rstrip())
    return ("", "") if begins == ends else (begins, ends)


def _shared(texts: pa.ChunkedArray) -> str:
    import pyarrow.compute as pc

    return commonprefix([str(each) for each in pc.min_max(texts).as_py().values()])


def _literal(template: str, place: int) -> str:
    pieces = [piece for piece in parse(template) if piece]
    return pieces[place] if pieces and isinstance(pieces[place], str) else ""


def _both(begins: str, ends: str) -> str:
    said = [f"{verb} “{_shown(text)}”" for verb, text in (("begin with", begins), ("end with", ends)) if text.strip()]
    return " and ".join(said)


def _is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def _strip(template: str, rows: Rows, begins: str, ends: str, title: str) -> Fix | None:
    """Takes the text out of the columns that bring it, where the template shows which these are."""
    columns = [piece.name for piece in parse(template) if isinstance(piece, Placeholder)]
    if not columns or not {columns[0], columns[-1]} <= set(rows.columns):
        return None

    def strip(row: dict[str, object]) -> dict[str, object]:
        first = {**row, columns[0]: _without(row[columns[0]], begins, "")}
        return {**first, columns[-1]: _without(first[columns[-1]], "", ends)}

    return mend(rows, range(len(rows)), title, strip)


def _without(cell: object, begins: str, ends: str) -> object:
    if (
        not isinstance(cell, str)
        or not cell.strip().startswith(begins.lstrip())
        or not cell.strip().endswith(ends.rstrip())
    ):
        return cell
    left = cell.strip().removeprefix(begins.lstrip()) if begins.strip() else cell
    left = left.strip().removesuffix(ends.rstrip()) if ends.strip() else left
    return left or cell
