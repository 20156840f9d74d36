"""A conversation as its template writes it, cut at the borders of the answers, so that no token ever straddles one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from os.path import commonprefix
from typing import NamedTuple

from ftui.encoding.chat_template import ChatTemplate
from ftui.encoding.messages import Message, answer_of, reasoning_of
from ftui.errors import UserError


class Piece(NamedTuple):
    text: str
    learned: bool


class Transcript:
    """The text of one conversation, to learn it or, with `ask`, to have the answer that comes next.

    A text to learn is repaired where its template does not begin or end the last answer as it is asked for. Special
    tokens of the data are shielded in it.
    """

    def __init__(self, template: ChatTemplate, messages: Sequence[Message], ask: bool) -> None:
        self._template = template
        self._messages = template.prepare(messages)
        self._text = template.render(self._messages, ask)
        self._prompts: dict[int, str] = {}
        if not ask and self._messages[-1]["role"] == "assistant":
            self._open_last()
            self._end_last()

    def pieces(self) -> Iterable[Piece]:
        """The whole text: what stands between the answers, and the answers."""
        position = 0
        for start, end, learned in self._turns():
            yield Piece(self._text[position:start], False)
            yield Piece(self._text[start:end], learned)
            position = end
        yield Piece(self._text[position:], False)

    def _asked(self, index: int) -> str:
        """The prompt for the answer `index`, rendered once; nothing where an answer comes first."""
        if index not in self._prompts:
            self._prompts[index] = self._template.render(self._messages[:index], ask=True) if index else ""
        return self._prompts[index]

    # the last answer

    def _open_last(self) -> None:
        """Begins the last turn as the prompt for it ends: a `<think>` that the prompt opens is closed again."""
        message, asked = self._messages[-1], self._asked(len(self._messages) - 1)
        if self._text.startswith(asked):
            return
        answer = self._text[self._find_start(message, asked) :]
        reasoning = reasoning_of(message)
        if asked.rstrip().endswith("<think>"):
            self._text = f"{asked}{reasoning}\n</think>\n\n{answer}"
            return
        if reasoning:
            self._template.note(
                "The chat template asks for an answer without reasoning; reasoning in the data is left out."
            )
        self._text = asked + answer

    def _end_last(self) -> None:
        """Ends the text with the stop token of its last turn, and nothing after it."""
        ending = self._template.end_of_turn
        before, found, after = self._text.rpartition(ending)
        is_ended = found and not after.strip(" \n" + self._template.end_of_text)
        self._text = (before if is_ended else self._text.rstrip()) + ending

    # where the answers stand

    def _turns(self) -> Iterable[tuple[int, int, bool]]:
        """Where each assistant turn begins and ends in the text, and whether it is learned."""
        for index, message in enumerate(self._messages):
            if message["role"] == "assistant":
                start = self._start(index)
                yield start, self._end(index, start), message.get("weight", 1) != 0

    def _start(self, index: int) -> int:
        """A turn begins where the prompt for it ends."""
        asked = self._asked(index)
        return len(asked) if self._text.startswith(asked) else self._find_start(self._messages[index], asked)

    def _end(self, index: int, start: int) -> int:
        """A turn ends where a rendering that stops after it ends, or, where the template renders an older turn otherwise
        than the newest, after its content and the end of the turn.
        """
        if index + 1 == len(self._messages):
            return len(self._text)
        until = self._template.render(self._messages[: index + 1], ask=False).rstrip()
        if self._text.startswith(until):
            return self._behind_stop(len(until))
        message = self._messages[index]
        return self._behind_stop(self._find(message, start) + len(answer_of(message)))

    def _find_start(self, message: Message, asked: str) -> int:
        """Where an answer begins that the template opens otherwise than its prompt ends: behind all they have in common."""
        if reasoning_of(message) and reasoning_of(message) not in self._text:
            self._template.note("The chat template drops the reasoning of older answers; they are learned without it.")
        return self._find(message, len(commonprefix([self._text, asked])))

    def _find(self, message: Message, after: int) -> int:
        content = answer_of(message)
        found = self._text.find(content, after)
        if not content or found < 0:
            raise UserError("the chat template does not write an answer of this conversation, so it cannot be learned")
        return found

    def _behind_stop(self, end: int) -> int:
        """Where the turn ends whose content ends at `end`: behind its stop token, if that is not in there yet."""
        stop = self._template.end_of_turn
        if self._text.endswith(stop, 0, end):
            return end
        ending = re.compile(rf"\s*(?:{re.escape(stop)}|{self._template.specials.pattern})").match(self._text, end)
        return ending.end() if ending else end
