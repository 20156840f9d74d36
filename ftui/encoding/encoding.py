"""Encoding: messages -> the tokens a model is trained on and the tokens it is asked with. The one template contract.

Two laws hold for every template: the ids of `prompt(messages[:-1])` are a prefix of those of `encode(messages)`; and
the labels are exactly the assistant's own tokens, the end of the turn included. Text is cut at the borders of the
answers before it is tokenized, so no token ever straddles one. What a template breaks is repaired here, and `notes`
says so. This file does not know where messages come from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from itertools import islice
from os.path import commonprefix
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ftui.encoding.messages import Message, answer_of, fold_system, reasoning_of
from ftui.encoding.templates import CHAT_TEMPLATES, PLAIN, read_template
from ftui.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
BATCH = 1000
# A special token inside data stands as E000 + (E100 + its number) + E001 while the template is rendered, and is cut in two
# before it is tokenized, so that it is read as the text it is and never obeyed.
_SHIELD = re.compile("\ue000(.)\ue001")


class Encoded(NamedTuple):
    """One example: token ids, their labels (-100 where nothing is learned), and how many tokens `max_length` cut off."""

    input_ids: list[int]
    labels: list[int]
    cut: int = 0

    @property
    def trained(self) -> int:
        return sum(label != IGNORED for label in self.labels)


class TokenView(NamedTuple):
    """A token to look at. `text`: what it adds to the text, nothing while a letter is not whole; `kind`: context, learned, or cut."""

    text: str
    id: int
    kind: str
    special: bool


class Piece(NamedTuple):
    text: str
    learned: bool


class Encoding:
    """Chat template, stop tokens and masks over one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, chat_template: str = "auto") -> None:
        self.tokenizer = tokenizer
        self.notes: list[str] = []
        self._as_parts = False
        self._special_names = dict(tokenizer.special_tokens_map)
        self.chat_template = self._choose(chat_template)
        self._specials = [*map(str, tokenizer.all_special_tokens), "\ue000"]
        self._special_pattern = re.compile(
            "|".join(map(re.escape, sorted(self._specials, key=len, reverse=True))) or "(?!)"
        )
        self._glue = self._find_glue()
        self._find_features()
        self.end_of_turn = self._find_end_of_turn()

    # what is learned

    def encode(
        self, conversations: Iterable[Sequence[Message]], max_length: int | None = None, answers_only: bool = True
    ) -> list[Encoded]:
        """Token ids and labels of each conversation, rendered one by one and tokenized in one batch.

        The answers are learned, or, without `answers_only`, everything. UserError where the template cannot render a conversation; the caller knows the row.
        """
        conversations, encoded = iter(conversations), []
        while batch := list(islice(conversations, BATCH)):  # a batch at a time: the tokenizer's own records are large
            examples = [self._pieces(messages) for messages in batch]
            ids = iter(self._tokenize([piece for pieces in examples for piece in pieces]))
            encoded += [
                _assemble([(piece.learned or not answers_only, next(ids)) for piece in pieces], max_length)
                for pieces in examples
            ]
        return encoded

    def explain(
        self, messages: Sequence[Message], max_length: int | None = None, answers_only: bool = True
    ) -> list[TokenView]:
        """Every token of the example with what becomes of it; all their texts together are the decoded whole."""
        whole = self.encode([messages], answers_only=answers_only)[0]
        texts = self._texts(whole.input_ids)
        specials = set(self.tokenizer.all_special_ids)
        views = []
        for index, (token, label) in enumerate(zip(whole.input_ids, whole.labels, strict=True)):
            kind = (
                "cut"
                if max_length is not None and index >= max_length
                else "context"
                if label == IGNORED
                else "learned"
            )
            views.append(TokenView(texts[index], token, kind, token in specials))
        return views

    def text(self, messages: Sequence[Message]) -> str:
        """The exact text of the example, before it becomes tokens and is cut."""
        return "".join(piece.text for piece in self._pieces(messages))

    # what is asked

    def prompt(self, messages: Sequence[Message]) -> str:
        """The exact text the model is asked with, up to where its answer begins."""
        return "".join(piece.text for piece in self._prompt_pieces(messages))

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        pieces = self._prompt_pieces(messages)
        return [token for ids in self._tokenize(pieces) for token in ids]

    def decode(self, ids: Sequence[int]) -> str:
        """The answer in `ids`, up to the first stop token."""
        stops = set(self.stop_token_ids)
        end = next((index for index, token in enumerate(ids) if int(token) in stops), len(ids))
        return self.tokenizer.decode(ids[:end], skip_special_tokens=True)

    @property
    def stop_token_ids(self) -> list[int]:
        """Tokens that end an answer: the end of the turn as it is learned, and the tokenizer's own."""
        last = self._tokenize([Piece(self.end_of_turn, True)])[0]
        is_token = len(last) == 1 or last[-1] in self.tokenizer.all_special_ids
        stops = {self.tokenizer.eos_token_id, last[-1] if is_token else None}
        return sorted(stop for stop in stops if stop is not None)

    def save(self, folder: Path) -> None:
        """The tokenizer with the template that was trained, and the stop tokens, so that plain transformers asks and ends the same way."""
        self.tokenizer.chat_template = self.chat_template
        self.tokenizer.save_pretrained(folder)
        stops = {"eos_token_id": self.stop_token_ids, "pad_token_id": self.tokenizer.pad_token_id}
        (folder / "generation_config.json").write_text(json.dumps(stops, indent=2) + "\n")

    # rendering

    def _render(self, messages: Sequence[Message], ask: bool) -> str:
        from jinja2.exceptions import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        tools = next((message["tools"] for message in messages if message.get("tools")), None)
        try:
            rendered, _ = render_jinja_template(
                conversations=[[self._as_rendered(message) for message in messages]],
                tools=tools,
                chat_template=self.chat_template,
                add_generation_prompt=ask,
                **self._special_names,
            )
            return rendered[0]
        except (TemplateError, TypeError, KeyError, ValueError, AttributeError) as error:
            raise UserError(f"the chat template refuses these messages: {error}") from None

    def _asked(self, messages: Sequence[Message]) -> str:
        """The prompt for what comes after `messages`; nothing where an answer comes first."""
        return self._render(messages, ask=True) if messages else ""

    def _as_rendered(self, message: Message) -> Message:
        message = {key: value for key, value in message.items() if key not in ("weight", "tools") and value is not None}
        return {**message, "content": [{"type": "text", "text": message["content"]}]} if self._as_parts else message

    def _prompt_pieces(self, messages: Sequence[Message]) -> list[Piece]:
        if messages and messages[-1]["role"] == "text":
            return self._split(self._shield(messages[-1]["content"]), [])
        messages = self._prepare(messages)
        text = self._render(messages, ask=True)
        return self._split(text, self._turns(messages, text))

    def _pieces(self, messages: Sequence[Message]) -> list[Piece]:
        if messages and messages[0]["role"] == "text":
            text = self._shield(messages[0]["content"]) + self.tokenizer.eos_token
            return self._split(text, [(0, len(text), True)])
        messages = self._prepare(messages)
        text = self._render(messages, ask=False)
        if messages[-1]["role"] != "assistant":
            return self._split(text, self._turns(messages, text))
        asked = self._asked(messages[:-1])
        text = self._ended(self._opened(text, messages, asked))
        return self._split(text, self._turns(messages, text, asked))

    def _turns(self, messages: list[Message], text: str, last_asked: str | None = None) -> list[tuple[int, int, bool]]:
        """Where each assistant turn stands in `text`, and whether it is learned.

        It begins where the prompt for it ends. It ends where a rendering that stops after it ends, or, where the
        template renders an older turn otherwise than the newest, after its content and the end of the turn.
        """
        turns: list[tuple[int, int, bool]] = []
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            is_last = index == len(messages) - 1
            asked = last_asked if is_last and last_asked is not None else self._asked(messages[:index])
            start = len(asked) if text.startswith(asked) else self._find_start(text, message, asked)
            end = len(text)
            if index + 1 < len(messages):
                until = self._render(messages[: index + 1], ask=False).rstrip()
                end = self._end(text, len(until)) if text.startswith(until) else self._find_end(text, message, start)
            turns.append((start, end, message.get("weight", 1) != 0))
        return turns

    def _opened(self, text: str, messages: list[Message], asked: str) -> str:
        """`text` with its last turn begun as the prompt for it ends: a `<think>` that the prompt opens is closed again."""
        if text.startswith(asked):
            return text
        answer = text[self._find_start(text, messages[-1], asked) :]
        reasoning = reasoning_of(messages[-1])
        if asked.rstrip().endswith("<think>"):
            return f"{asked}{reasoning}\n</think>\n\n{answer}"
        if reasoning:
            self._note("The chat template asks for an answer without reasoning; reasoning in the data is left out.")
        return asked + answer

    def _ended(self, text: str) -> str:
        """`text` ended by the stop token of its last turn, and nothing after it."""
        end = text.rfind(self.end_of_turn)
        if end >= 0 and not text[end + len(self.end_of_turn) :].strip(" \n" + str(self.tokenizer.eos_token)):
            return text[: end + len(self.end_of_turn)]
        return text.rstrip() + self.end_of_turn

    def _find_start(self, text: str, message: Message, asked: str) -> int:
        """Where an answer begins that the template opens otherwise than its prompt ends: behind all they have in common."""
        if reasoning_of(message) and reasoning_of(message) not in text:
            self._note("The chat template drops the reasoning of older answers; they are learned without it.")
        return self._find(text, message, len(commonprefix([text, asked])))

    def _find(self, text: str, message: Message, after: int) -> int:
        content = answer_of(message)
        found = text.find(content, after)
        if not content or found < 0:
            raise UserError("the chat template does not write an answer of this conversation, so it cannot be learned")
        return found

    def _find_end(self, text: str, message: Message, start: int) -> int:
        return self._end(text, self._find(text, message, start) + len(answer_of(message)))

    def _end(self, text: str, end: int) -> int:
        """Where the turn ends whose content ends at `end`: behind its stop token, if that is not in there yet."""
        if text.endswith(self.end_of_turn, 0, end):
            return end
        ending = re.compile(rf"\s*(?:{re.escape(self.end_of_turn)}|{self._special_pattern.pattern})").match(text, end)
        return ending.end() if ending else end

    def _split(self, text: str, turns: list[tuple[int, int, bool]]) -> list[Piece]:
        pieces, position = [], 0
        for start, end, learned in turns:
            pieces += [Piece(text[position:start], False), Piece(text[start:end], learned)]
            position = end
        pieces.append(Piece(text[position:], False))
        return [part for piece in pieces for part in self._unshielded(piece) if part.text]

    # special tokens inside data

    def _prepare(self, messages: Sequence[Message]) -> list[Message]:
        """The messages as this template takes them: special tokens shielded, system and reasoning where it reads them."""
        prepared = [self._prepare_message(message) for message in messages]
        if not self._has_system_role and prepared and prepared[0]["role"] == "system":
            prepared = fold_system(prepared)
        return prepared

    def _prepare_message(self, message: Message) -> Message:
        content, reasoning = message.get("content") or "", message.get("reasoning_content") or ""
        if not reasoning and content.lstrip().startswith("<think>") and "</think>" in content:
            reasoning, _, content = content.lstrip().removeprefix("<think>").partition("</think>")
        content, reasoning = (
            self._shield(content.strip("\n") if reasoning else content),
            self._shield(reasoning.strip()),
        )
        message = {key: value for key, value in message.items() if key != "reasoning_content"}
        if reasoning and self._has_reasoning_field:
            return {**message, "content": content, "reasoning_content": reasoning}
        return {**message, "content": f"<think>\n{reasoning}\n</think>\n\n{content}" if reasoning else content}

    def _shield(self, text: str) -> str:
        return self._special_pattern.sub(
            lambda match: f"\ue000{chr(0xE100 + self._specials.index(match[0]))}\ue001", text
        )

    def _unshielded(self, piece: Piece) -> Iterable[Piece]:
        """The piece cut within each special token of the data, which so becomes the text it is."""
        for index, part in enumerate(_SHIELD.split(piece.text)):
            special = self._specials[ord(part) - 0xE100] if index % 2 else ""
            yield from (Piece(text, piece.learned) for text in ((special[:1], special[1:]) if special else (part,)))

    # tokens

    def _tokenize(self, pieces: Sequence[Piece]) -> list[list[int]]:
        """The ids of each piece; those of plain pieces in one batch, and each text once: answers are often labels."""
        texts = list(dict.fromkeys(piece.text for piece in pieces))
        if not texts:
            return []
        glued = [self._glue + text for text in texts] if self._glue else texts
        # Without offsets, which nobody reads: a fifth faster than the tokenizer's own call.
        found = self.tokenizer.backend_tokenizer.encode_batch_fast(glued, add_special_tokens=False)
        ids = {text: each.ids[1:] if self._glue else each.ids for text, each in zip(texts, found, strict=True)}
        return [ids[piece.text] for piece in pieces]

    def _texts(self, ids: Sequence[int]) -> list[str]:
        """What each token adds to the text. A letter of several tokens stands with the last of them."""
        texts: list[str] = []
        before: list[int] = []
        letter: list[int] = []
        for position, token in enumerate(ids, 1):
            letter.append(token)
            # Behind the tokens before, because SentencePiece drops the blank of the first token that it decodes.
            text = self._decoded(before + letter)[len(self._decoded(before)) :]
            # U+FFFD is half a letter, unless the data hold it: then its tokens are these.
            is_half = text.endswith("\ufffd") and self._tokenize([Piece(text, False)]) != [letter]
            if is_half and position < len(ids):
                texts.append("")
            else:
                texts.append(text)
                before, letter = letter, []
        return texts

    def _decoded(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)

    def _find_glue(self) -> str:
        """SentencePiece puts a blank before each text; behind a special token, which is dropped again, it does not."""
        first = self.tokenizer.convert_ids_to_tokens(self.tokenizer("a", add_special_tokens=False)["input_ids"])[0]
        return str(self.tokenizer.eos_token) if first.startswith("▁") else ""

    # what the template is like

    def _choose(self, chat_template: str) -> str:
        if chat_template in CHAT_TEMPLATES:
            return CHAT_TEMPLATES[chat_template]
        if chat_template != "auto":
            if "{%" not in chat_template and "{{" not in chat_template:
                return read_template(chat_template)
            return chat_template
        own = self.tokenizer.chat_template
        own = own.get("default") if isinstance(own, dict) else own
        if not own:
            self._note(
                "The model has no chat template of its own; ftui writes plain text, one message a line, and ends answers with the end-of-text token."
            )
            return PLAIN
        return self._repaired(own)

    def _repaired(self, own: str) -> str:
        """The model's template, or TRL's training variant of it where it rewrites older turns or drops reasoning."""
        from trl.chat_template_utils import get_training_chat_template

        user, answer = {"role": "user", "content": "Probe-1."}, {"role": "assistant", "content": "Probe-2."}
        thought = {"role": "assistant", "content": "<think>\nProbe-3.\n</think>\n\nProbe-2."}
        self.chat_template = own
        try:
            short, long = self._render([user, answer], ask=False), self._render([user, answer, user], ask=False)
            if long.startswith(short.rpartition("Probe-2.")[0]) and "Probe-3." in self._render(
                [user, thought], ask=False
            ):
                return own
            variant = get_training_chat_template(self.tokenizer)
        except (UserError, ValueError):
            return own  # no variant is known
        if variant and variant != own:
            self._note(
                "The model's chat template rewrites older turns or drops reasoning; ftui uses TRL's training variant of it and saves it with the model."
            )
        return variant or own

    def _probe(self, *messages: Message) -> str:
        try:
            return self._render(messages, ask=False)
        except UserError:
            return ""

    def _find_features(self) -> None:
        """What the template can render: contents as parts, a system role, a field for reasoning."""
        system, user = {"role": "system", "content": "Probe-1."}, {"role": "user", "content": "Probe-2."}
        self._as_parts = "Probe-2." not in self._probe(user)
        if self._as_parts and "Probe-2." not in self._probe(user):
            raise UserError(
                "The model's chat template cannot write a plain user message. Choose another with chat_template: plain, alpaca or chatml."
            )
        self._has_system_role = "Probe-1." in self._probe(system, user)
        if not self._has_system_role:
            self._note(
                "The chat template has no system role; ftui puts the system prompt before the first user message."
            )
        reasoned = {"role": "assistant", "content": "Probe-4.", "reasoning_content": "Probe-3."}
        self._has_reasoning_field = "Probe-3." in self._probe(user, reasoned)

    def _find_end_of_turn(self) -> str:
        """What the template writes right after an answer; the end-of-text token where it writes nothing of its own."""
        user, answer = {"role": "user", "content": "Probe-3."}, {"role": "assistant", "content": "Probe-4."}
        for probe in ([user, answer], [user, answer, user]):
            rest = self._probe(*probe).rpartition("Probe-4.")[2].strip()
            ending = re.match(rf"(?:{self._special_pattern.pattern})+|<[^<>\s]{{2,40}}>|\[/?[A-Z_]+\]", rest)
            if ending:
                return ending[0]
        self._note(
            f"The chat template does not end an answer; ftui ends it with {self.tokenizer.eos_token}, so that the model learns to stop."
        )
        return str(self.tokenizer.eos_token)

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)


def _assemble(parts: list[tuple[bool, list[int]]], max_length: int | None) -> Encoded:
    """`parts`: whether they are learned, and their ids."""
    input_ids, labels = [], []
    for learned, ids in parts:
        input_ids += ids
        labels += ids if learned else [IGNORED] * len(ids)
    cut = max(0, len(input_ids) - max_length) if max_length is not None else 0
    return Encoded(input_ids[:max_length], labels[:max_length], cut)
