"""What the model is shown and what it learns: rows that are cut, contents that a template drops, stop tokens that are not learned."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator

from ftui.config import RunConfig
from ftui.dataset import Rows
from ftui.doctor.problem import Problem, error, leave_out, warning
from ftui.doctor.texts import Texts
from ftui.encoding import IGNORED, Encoding, Message
from ftui.examples import Examples

FEW, ENOUGH = 10, 50
_LOOKED_AT = 3


def look_at_supervision(
    config: RunConfig, encoding: Encoding, rows: Rows, examples: Examples, texts: Texts
) -> Iterator[Problem]:
    yield from _number_of_rows(examples)
    yield from _cut(config.training.max_length, rows, texts)
    yield from _dropped(encoding, rows, texts)
    unended = list(_unended(encoding, texts))
    yield from error(
        "stop_token_untrained",
        unended,
        f"{{rows}}: the end of the answer ({encoding.end_of_turn}) is not learned, so the model will not stop. "
        "Choose another chat template.",
    )
    unknown = encoding.tokenizer.unk_token_id
    if unknown is not None and unknown not in encoding.stop_token_ids:
        lost = [example.row for example in texts.examples if unknown in example.encoded.input_ids]
        yield from warning(
            "unknown_tokens",
            lost,
            "{rows}: some characters are unknown to the tokenizer and are lost. Replace them, or choose a base model that knows them.",
        )


def _number_of_rows(examples: Examples) -> Iterator[Problem]:
    numbers = examples.train.numbers.tolist()
    if len(numbers) < FEW:
        yield from error(
            "too_few_rows",
            numbers,
            f"There are only {len(numbers)} rows to learn from. Add rows until there are at least {FEW}, better {ENOUGH}; "
            "fewer are learned by heart.",
        )
    elif len(numbers) < ENOUGH:
        yield from warning(
            "too_few_rows",
            numbers,
            f"There are {len(numbers)} rows to learn from. {ENOUGH} good ones are a start; doubling them helps most.",
        )


def _cut(max_length: int, rows: Rows, texts: Texts) -> Iterator[Problem]:
    cut = [example for example in texts.examples if example.encoded.cut]
    total = sum(len(example.encoded.input_ids) + example.encoded.cut for example in texts.examples)
    lost = sum(example.encoded.cut for example in cut)
    needed = max((len(example.encoded.input_ids) + example.encoded.cut for example in cut), default=0)
    numbers = [example.row for example in cut]
    yield from warning(
        "over_length",
        numbers,
        f"{{rows}}: longer than max_length ({max_length}), so {lost / max(total, 1):.1%} of all tokens are cut off. "
        f"Raise max_length ({needed} holds all) or shorten the rows.",
        leave_out(rows, numbers),
    )
    # What is behind the cut is the end of the last message, whatever its role.
    answers = [
        example.row
        for example in cut
        if example.messages[-1]["role"] == "assistant" and example.messages[-1].get("weight", 1) != 0
    ]
    say = error if len(answers) > 0.1 * len(texts.examples) else warning
    yield from say(
        "answer_cut",
        answers,
        f"{{rows}}: the answer is cut off at max_length ({max_length}), so its end and where to stop are not learned. "
        f"Raise max_length to {needed} or leave the rows out.",
        leave_out(rows, answers),
    )


def _unended(encoding: Encoding, texts: Texts) -> Iterator[int]:
    """Rows whose answer is learned without its end. Where the cut took the end, that is another problem."""
    stops = set(encoding.stop_token_ids)
    ending = encoding.tokenizer(encoding.end_of_turn, add_special_tokens=False)["input_ids"]
    for row, messages, encoded in texts.examples:
        last = messages[-1]
        if last["role"] != "assistant" or last.get("weight", 1) == 0 or encoded.cut:
            continue
        learned = next((label for label in reversed(encoded.labels) if label != IGNORED), None)
        if learned not in stops and encoded.labels[-len(ending) :] != ending:
            yield row


# contents that do not arrive


Kind = tuple[str, str]


def _dropped(encoding: Encoding, rows: Rows, texts: Texts) -> Iterator[Problem]:
    """Messages of one kind are written by one branch of the chat template, so a few rows of each kind are decoded."""
    kinds = [_kinds(example.messages) for example in texts.examples]
    looked: dict[Kind, int] = {}
    lost: dict[Kind, None] = {}
    for example, own in zip(texts.examples, kinds, strict=True):
        if any(looked.get(kind, 0) < _LOOKED_AT for kind in own):
            for kind in own:
                looked[kind] = looked.get(kind, 0) + 1
            lost.update(dict.fromkeys(_lost(encoding, example.messages)))
    numbers = [example.row for example, own in zip(texts.examples, kinds, strict=True) if not own.isdisjoint(lost)]
    yield from error(
        "content_dropped",
        numbers,
        f"{{rows}}: the chat template leaves out {' and '.join(dict.fromkeys(what for what, _ in lost))}, so the model never sees it. "
        "Choose another chat template or base model, or take it out of the rows.",
        leave_out(rows, numbers),
    )


def _kinds(messages: list[Message]) -> set[Kind]:
    return {(what, place) for what, place, _ in _parts(messages)}


def _parts(messages: list[Message]) -> Iterator[tuple[str, str, list[str]]]:
    """What a conversation is made of: what it is, where it stands, and the texts that must arrive."""
    for number, message in enumerate(messages):
        place = "last" if number == len(messages) - 1 else "first" if not number else "between"
        content, reasoning = message.get("content") or "", message.get("reasoning_content") or ""
        if not reasoning and content.lstrip().startswith("<think>") and "</think>" in content:
            reasoning, _, content = content.lstrip().removeprefix("<think>").partition("</think>")
        if content.strip():
            yield f"what the {message['role']} says" if message["role"] != "text" else "the text", place, [content]
        if reasoning.strip():
            yield "the reasoning", place, [reasoning]
        if message.get("tool_calls"):
            functions = [call["function"] for call in message["tool_calls"]]
            yield (
                "the tool calls",
                place,
                [
                    word
                    for function in functions
                    for word in (function["name"], *map(_scalar, function["arguments"].values()))
                ],
            )
        if message.get("tools"):
            yield "the list of tools", place, [tool["function"]["name"] for tool in message["tools"]]


def _scalar(value: object) -> str:
    """An argument as it stands in the text, if that can be known: templates write lists and objects in their own ways."""
    return value if isinstance(value, str) else json.dumps(value) if isinstance(value, int | float) else ""


def _lost(encoding: Encoding, messages: list[Message]) -> Iterator[Kind]:
    ids = encoding.encode([messages])[0].input_ids
    if encoding.tokenizer.unk_token_id in ids:
        return
    arrived = _bare(encoding.tokenizer.decode(ids))
    for what, place, wanted in _parts(messages):
        if any(_bare(text) not in arrived and _bare(json.dumps(text)[1:-1]) not in arrived for text in wanted):
            yield what, place


def _bare(text: str) -> str:
    """Without blanks and forms of letters, which tokenizers are free to change."""
    return re.sub(r"\s+", "", unicodedata.normalize("NFKC", text)).casefold()
