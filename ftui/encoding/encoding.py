"""Encoding: messages -> the tokens a model is trained on and the tokens it is asked with. The one template contract.

Two laws hold for every template: the ids of `prompt(messages[:-1])` are a prefix of those of `encode(messages)`; and
the labels are exactly the assistant's own tokens, the end of the turn included. `ChatTemplate` writes messages as text,
`Transcript` cuts the text at the borders of the answers, and here the pieces become tokens, each on its own. What a
template breaks is repaired on the way, and `notes` says so. This file does not know where messages come from.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ftui.encoding.chat_template import ChatTemplate
from ftui.encoding.messages import Message
from ftui.encoding.special_tokens import SpecialTokens
from ftui.encoding.transcript import Piece, Transcript

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
BATCH = 1000


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


class Encoding:
    """Chat template, stop tokens and masks over one tokenizer. `notes` grows when a conversation loses something."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, chat_template: str = "auto") -> None:
        self.tokenizer = tokenizer
        self._specials = SpecialTokens(map(str, tokenizer.all_special_tokens))
        self._template = ChatTemplate(tokenizer, chat_template, self._specials)
        self._glue = self._find_glue()
        self.notes = self._template.notes
        self.chat_template = self._template.source
        self.end_of_turn = self._template.end_of_turn

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
            is_cut = max_length is not None and index >= max_length
            kind = "cut" if is_cut else "context" if label == IGNORED else "learned"
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

    # pieces

    def _pieces(self, messages: Sequence[Message]) -> list[Piece]:
        if messages and messages[0]["role"] == "text":
            text = self._specials.shield(messages[0]["content"]) + self.tokenizer.eos_token
            return self._cut([Piece(text, True)])
        return self._cut(Transcript(self._template, messages, ask=False).pieces())

    def _prompt_pieces(self, messages: Sequence[Message]) -> list[Piece]:
        if messages and messages[-1]["role"] == "text":
            return self._cut([Piece(self._specials.shield(messages[-1]["content"]), False)])
        return self._cut(Transcript(self._template, messages, ask=True).pieces())

    def _cut(self, pieces: Iterable[Piece]) -> list[Piece]:
        """The pieces, cut once more within each special token of the data."""
        return [Piece(part, piece.learned) for piece in pieces for part in self._specials.cut(piece.text) if part]

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


def _assemble(parts: list[tuple[bool, list[int]]], max_length: int | None) -> Encoded:
    """`parts`: whether they are learned, and their ids."""
    input_ids, labels = [], []
    for learned, ids in parts:
        input_ids += ids
        labels += ids if learned else [IGNORED] * len(ids)
    cut = max(0, len(input_ids) - max_length) if max_length is not None else 0
    return Encoded(input_ids[:max_length], labels[:max_length], cut)
