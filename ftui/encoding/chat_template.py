"""The chat template: messages -> text. Which one it is, what it can render, how it ends an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ftui.encoding.messages import Message, fold_system
from ftui.encoding.special_tokens import SpecialTokens
from ftui.encoding.templates import PLAIN, read_template
from ftui.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class ChatTemplate:
    """The template that was chosen, or, with `auto`, the model's own, repaired where it breaks what is learned.

    `source` is its Jinja, `end_of_turn` what it writes right after an answer. `notes` says what was repaired, what it
    lacks, and what it leaves out of the conversations that it has met.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, chosen: str, specials: SpecialTokens) -> None:
        self.notes: list[str] = []
        self.specials = specials
        self.end_of_text = str(tokenizer.eos_token)
        self._special_names = dict(tokenizer.special_tokens_map)
        self._takes_parts = False
        if chosen == "auto":
            self._take_own(tokenizer)
        else:
            self.source = read_template(chosen)
        self._find_features()
        self.end_of_turn = self._find_end_of_turn()

    def prepare(self, messages: Sequence[Message]) -> list[Message]:
        """The messages as this template takes them: special tokens shielded, system and reasoning where it reads them."""
        prepared = [self._prepare_message(message) for message in messages]
        if not self._has_system_role and prepared and prepared[0]["role"] == "system":
            prepared = fold_system(prepared)
        return prepared

    def render(self, messages: Sequence[Message], ask: bool) -> str:
        """The text of prepared messages; with `ask`, the beginning of the answer that comes next as well."""
        from jinja2.exceptions import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        tools = next((message["tools"] for message in messages if message.get("tools")), None)
        try:
            rendered, _ = render_jinja_template(
                conversations=[[self._as_rendered(message) for message in messages]],
                tools=tools,
                chat_template=self.source,
                add_generation_prompt=ask,
                **self._special_names,
            )
            return rendered[0]
        except (TemplateError, TypeError, KeyError, ValueError, AttributeError) as error:
            raise UserError(f"the chat template refuses these messages: {error}") from None

    def note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    # messages as it takes them

    def _prepare_message(self, message: Message) -> Message:
        content, reasoning = message.get("content") or "", message.get("reasoning_content") or ""
        if not reasoning and content.lstrip().startswith("<think>") and "</think>" in content:
            reasoning, _, content = content.lstrip().removeprefix("<think>").partition("</think>")
        content = self.specials.shield(content.strip("\n") if reasoning else content)
        reasoning = self.specials.shield(reasoning.strip())
        message = {key: value for key, value in message.items() if key != "reasoning_content"}
        if reasoning and self._has_reasoning_field:
            return {**message, "content": content, "reasoning_content": reasoning}
        return {**message, "content": f"<think>\n{reasoning}\n</think>\n\n{content}" if reasoning else content}

    def _as_rendered(self, message: Message) -> Message:
        message = {key: value for key, value in message.items() if key not in ("weight", "tools") and value is not None}
        return {**message, "content": [{"type": "text", "text": message["content"]}]} if self._takes_parts else message

    # what it is like

    def _take_own(self, tokenizer: PreTrainedTokenizerBase) -> None:
        own = tokenizer.chat_template
        own = own.get("default") if isinstance(own, dict) else own
        self.source = own or PLAIN
        if own:
            self._repair(tokenizer)
        else:
            self.note(
                "The model has no chat template of its own; ftui writes plain text, one message a line, and ends answers with the end-of-text token."
            )

    def _repair(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Takes TRL's training variant of the model's template where that rewrites older turns or drops reasoning."""
        from trl.chat_template_utils import get_training_chat_template

        user, answer = {"role": "user", "content": "Probe-1."}, {"role": "assistant", "content": "Probe-2."}
        thought = {"role": "assistant", "content": "<think>\nProbe-3.\n</think>\n\nProbe-2."}
        try:
            short, long = self.render([user, answer], ask=False), self.render([user, answer, user], ask=False)
            keeps_turns = long.startswith(short.rpartition("Probe-2.")[0])
            if keeps_turns and "Probe-3." in self.render([user, thought], ask=False):
                return
            variant = get_training_chat_template(tokenizer)
        except (UserError, ValueError):
            return  # it refuses a probe, or no variant is known
        if variant and variant != self.source:
            self.source = variant
            self.note(
                "The model's chat template rewrites older turns or drops reasoning; ftui uses TRL's training variant of it and saves it with the model."
            )

    def _find_features(self) -> None:
        """What the template can render: contents as parts, a system role, a field for reasoning."""
        system, user = {"role": "system", "content": "Probe-1."}, {"role": "user", "content": "Probe-2."}
        self._takes_parts = "Probe-2." not in self._probe(user)
        if self._takes_parts and "Probe-2." not in self._probe(user):
            raise UserError(
                "The model's chat template cannot write a plain user message. Choose another with chat_template: plain, alpaca or chatml."
            )
        self._has_system_role = "Probe-1." in self._probe(system, user)
        if not self._has_system_role:
            self.note(
                "The chat template has no system role; ftui puts the system prompt before the first user message."
            )
        reasoned = {"role": "assistant", "content": "Probe-4.", "reasoning_content": "Probe-3."}
        self._has_reasoning_field = "Probe-3." in self._probe(user, reasoned)

    def _find_end_of_turn(self) -> str:
        """What the template writes right after an answer; the end-of-text token where it writes nothing of its own."""
        user, answer = {"role": "user", "content": "Probe-3."}, {"role": "assistant", "content": "Probe-4."}
        for probe in ([user, answer], [user, answer, user]):
            rest = self._probe(*probe).rpartition("Probe-4.")[2].strip()
            ending = re.match(rf"(?:{self.specials.pattern})+|<[^<>\s]{{2,40}}>|\[/?[A-Z_]+\]", rest)
            if ending:
                return ending[0]
        self.note(
            f"The chat template does not end an answer; ftui ends it with {self.end_of_text}, so that the model learns to stop."
        )
        return self.end_of_text

    def _probe(self, *messages: Message) -> str:
        try:
            return self.render(messages, ask=False)
        except UserError:
            return ""
