"""What the model is shown and what it learns: rows that are cut, contents that a template drops, stop tokens that are not learned."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence

from ftui.config import FEWEST_ROWS, RunConfig
from ftui.dataset import Rows
from ftui.doctor.problem import Problem, Setting, error, leave_out, warning
from ftui.doctor.survey import Mark, Survey
from ftui.encoding import IGNORED, Encoding, Message
from ftui.errors import UserError
from ftui.examples import Example

FEW_ROWS, ENOUGH = 10, 50
_LOST = "lost: "

Shape = tuple[tuple[str | bool, ...], ...]


class Arrival:
    """The look at what the model gets: does each answer end, are all characters known, does every content arrive?

    Whole rows are decoded; those that `max_length` cuts are written once more, whole. What also stands elsewhere in its
    row would seem to arrive, so each shape of conversation is written once with marks that nothing else says.
    """

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding
        self.stops = set(encoding.stop_token_ids)
        self.ending = encoding.tokenizer(encoding.end_of_turn, add_special_tokens=False)["input_ids"]
        unknown = encoding.tokenizer.unk_token_id
        self.unknown = None if unknown in self.stops else unknown
        self.lost_of_shape: dict[Shape, set[str]] = {}

    def __call__(self, batch: Sequence[Example]) -> Iterator[Mark]:
        whole = [example for example in batch if not example.encoded.cut]
        ids = [example.encoded.input_ids for example in whole]
        decoded = self.encoding.tokenizer.backend_tokenizer.decode_batch(ids, skip_special_tokens=False)
        for (row, messages, encoded), text in zip(whole, decoded, strict=True):
            if self._is_unended(messages, encoded.labels):
                yield "unended", row
            if self._is_unknown(encoded.input_ids):
                yield "unknown", row
            else:
                yield from self._lost(row, messages, text)
        for row, messages, encoded in (example for example in batch if example.encoded.cut):
            if self._is_unknown(encoded.input_ids):
                yield "unknown", row
            # What is behind the cut is the end of the last message, whatever its role.
            if messages[-1]["role"] == "assistant" and messages[-1].get("weight", 1) != 0:
                yield "answer_cut", row
            yield from self._lost(row, messages, self.encoding.text(messages))

    def _is_unknown(self, ids: Sequence[int]) -> bool:
        return self.unknown is not None and self.unknown in ids

    def _is_unended(self, messages: list[Message], labels: Sequence[int]) -> bool:
        """Whether the answer is learned without its end."""
        last = messages[-1]
        if last["role"] != "assistant" or last.get("weight", 1) == 0:
            return False
        learned = next((label for label in reversed(labels) if label != IGNORED), None)
        return learned not in self.stops and list(labels[-len(self.ending) :]) != self.ending

    def _lost(self, row: int, messages: list[Message], text: str) -> Iterator[Mark]:
        shape = _shape(messages)
        if shape not in self.lost_of_shape:
            marked = [_marked(message, number) for number, message in enumerate(messages)]
            try:
                self.lost_of_shape[shape] = _missing(marked, self.encoding.text(marked))
            except UserError:  # the template wants contents that the marks are not
                self.lost_of_shape[shape] = set()
        for what in _missing(messages, text) | self.lost_of_shape[shape]:
            yield _LOST + what, row


def look_at_supervision(config: RunConfig, encoding: Encoding, rows: Rows, survey: Survey) -> Iterator[Problem]:
    yield from _number_of_rows(survey)
    yield from _test_rows(config, survey)
    yield from _cut(config.training.max_length, rows, survey)
    yield from _dropped(rows, survey)
    yield from error(
        "stop_token_untrained",
        survey.marks.get("unended", []),
        f"{{rows}}: the end of the answer ({encoding.end_of_turn}) is not learned, so the model will not stop. "
        "Choose another chat template.",
    )
    yield from warning(
        "unknown_tokens",
        survey.marks.get("unknown", []),
        "{rows}: some characters are unknown to the tokenizer and are lost. Replace them, or choose a base model that knows them.",
    )


def _number_of_rows(survey: Survey) -> Iterator[Problem]:
    numbers = survey.numbers((survey.parts == 0).nonzero()[0])
    if not numbers:
        yield Problem("too_few_rows", "error", 0, [], "There is no row to learn from. Mend the rows, or the split.")
    elif len(numbers) < FEW_ROWS:
        yield from error(
            "too_few_rows",
            numbers,
            f"Too few rows to learn from: {len(numbers)}. Add rows until there are at least {FEW_ROWS}, better {ENOUGH}; "
            "fewer are learned by heart.",
        )
    elif len(numbers) < ENOUGH:
        yield from warning(
            "too_few_rows",
            numbers,
            f"There are {len(numbers)} rows to learn from. {ENOUGH} good ones are a start; doubling them helps most.",
        )


def _test_rows(config: RunConfig, survey: Survey) -> Iterator[Problem]:
    """Too few for a verdict, said before the training. Whoever asks for fewer answers than that wants none."""
    train, held_out = (survey.numbers((survey.parts == part).nonzero()[0]) for part in (0, 2))
    missing = FEWEST_ROWS - len(held_out)
    if missing <= 0 or config.evaluation.limit < FEWEST_ROWS:
        return
    asked = config.split.test
    is_number = not isinstance(asked, str) and not config.split.column
    enough = max(FEWEST_ROWS, asked + missing if isinstance(asked, int) else 0) if is_number else 0
    can_give = is_number and len(train) - missing >= FEW_ROWS
    yield from warning(
        "few_test_rows",
        held_out,
        f"The test has {len(held_out)} of the {FEWEST_ROWS} rows that a verdict takes, so the run would end without one. "
        + (
            f"Set split.test to {enough} (Data → Advanced: reading and splitting)."
            if can_give
            else "Add rows, and hold more of them back."
        ),
        Setting(f"Hold back {enough} rows for the test (split.test)", "split.test", enough) if can_give else None,
    )


def _cut(max_length: int, rows: Rows, survey: Survey) -> Iterator[Problem]:
    cut = survey.cut.nonzero()[0]
    needed = int(survey.tokens[cut].max()) if len(cut) else 0
    numbers = survey.numbers(cut)
    yield from warning(
        "over_length",
        numbers,
        f"{{rows}}: longer than max_length ({max_length}), so {survey.cut.sum() / max(survey.tokens.sum(), 1):.1%} of all tokens are cut off. "
        f"Raise max_length ({needed} holds all) or shorten such rows.",
        leave_out(rows, numbers, "too long"),
    )
    answers = survey.marks.get("answer_cut", [])
    say = error if len(answers) > 0.1 * len(survey) else warning
    yield from say(
        "answer_cut",
        answers,
        f"{{rows}}: the answer is cut off at max_length ({max_length}), so its end and where to stop are not learned. "
        f"Raise max_length to {needed} or leave such rows out.",
        leave_out(rows, answers, "an answer that is cut off"),
    )


# contents that do not arrive


def _dropped(rows: Rows, survey: Survey) -> Iterator[Problem]:
    lost = {mark.removeprefix(_LOST): found for mark, found in survey.marks.items() if mark.startswith(_LOST)}
    numbers = sorted({number for found in lost.values() for number in found})
    yield from error(
        "content_dropped",
        numbers,
        f"{{rows}}: the chat template leaves out {' and '.join(sorted(lost))}, so the model never sees it. "
        "Choose another chat template or base model, or take it out of the rows.",
        leave_out(rows, numbers, "contents that are left out"),
    )


def _shape(messages: list[Message]) -> Shape:
    """Who speaks when and with what: all that most templates look at."""
    return tuple(
        (
            message["role"],
            *(bool(message.get(key)) for key in ("content", "reasoning_content", "tool_calls", "tools")),
            bool(_inline(message)),
        )
        for message in messages
    )


def _marked(message: Message, number: int) -> Message:
    """The message with marks of this number for contents."""
    mark, thought = f"Mark-{number}.", f"Thought-{number}."
    said = f"<think>\n{thought}\n</think>\n\n{mark}" if _inline(message) else mark
    functions = [
        {**call, "function": {"name": f"call_{number}_{place}_", "arguments": {"mark": f"call-{number}-{place}."}}}
        for place, call in enumerate(message.get("tool_calls") or [])
    ]
    tools = [
        {**tool, "function": {**tool["function"], "name": f"tool_{number}_{place}_"}}
        for place, tool in enumerate(message.get("tools") or [])
    ]
    marked = {"content": said, "reasoning_content": thought, "tool_calls": functions, "tools": tools}
    return message | {key: value for key, value in marked.items() if message.get(key)}


def _inline(message: Message) -> str:
    """The reasoning that stands in the content itself."""
    content = (message.get("content") or "").lstrip()
    is_inline = content.startswith("<think>") and "</think>" in content and not message.get("reasoning_content")
    return content.removeprefix("<think>").partition("</think>")[0] if is_inline else ""


def _parts(messages: list[Message]) -> Iterator[tuple[str, list[str]]]:
    """What a conversation is made of: what it is, and the texts that must arrive."""
    for message in messages:
        content, reasoning = message.get("content") or "", message.get("reasoning_content") or ""
        if inline := _inline(message):
            reasoning, content = inline, content.partition("</think>")[2]
        if content.strip():
            yield f"what the {message['role']} says" if message["role"] != "text" else "the text", [content]
        if reasoning.strip():
            yield "the reasoning", [reasoning]
        if message.get("tool_calls"):
            functions = [call["function"] for call in message["tool_calls"]]
            arguments = [value for function in functions for value in function["arguments"].values()]
            yield "the tool calls", [*(function["name"] for function in functions), *map(_scalar, arguments)]
        if message.get("tools"):
            yield "the list of tools", [tool["function"]["name"] for tool in message["tools"]]


def _scalar(value: object) -> str:
    """An argument as it stands in the text, if that can be known: templates write lists and objects in their own ways."""
    return value if isinstance(value, str) else json.dumps(value) if isinstance(value, int | float) else ""


def _missing(messages: list[Message], text: str) -> set[str]:
    """What of the messages is not in the text that the model gets."""
    missing = [(what, [each for each in wanted if each.strip() not in text]) for what, wanted in _parts(messages)]
    if not any(each for _, each in missing):
        return set()
    arrived = _bare(text)
    return {
        what
        for what, wanted in missing
        if any(_bare(each) not in arrived and _bare(json.dumps(each)[1:-1]) not in arrived for each in wanted)
    }


def _bare(text: str) -> str:
    """Without blanks and forms of letters, which tokenizers are free to change."""
    return re.sub(r"\s+", "", unicodedata.normalize("NFKC", text)).casefold()
