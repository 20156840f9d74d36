"""PromptTemplate: a row becomes messages, and so does a chat turn. One object for both, so what was learned is what is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from pydantic import Field, field_validator, model_validator

from ftui.errors import UserError
from ftui.settings import OptionalText, Settings
from ftui.template.conversation import read_conversation, read_history, read_tools
from ftui.template.placeholders import column_of, fill, lookup, names, parse, unknown

MAX_TEMPLATE = 65_536


class Unfilled(UserError):
    """A row leaves the prompt, the completion or the text empty."""


class PromptTemplate(Settings):
    """How a row is asked and answered: a prompt and its completion, a column of conversations, or plain text.

    `messages` may stand together with `completion`: the conversation is then the question, and the completion its answer
    (preference data, or TRL's conversational prompt and completion). Only the completion is learned then, as by TRL.
    """

    system: str = Field(
        "", max_length=MAX_TEMPLATE, title="System", description="Said before every conversation. May hold {{columns}}."
    )
    prompt: str = Field(
        "",
        max_length=MAX_TEMPLATE,
        title="Prompt",
        description="What the user says, such as {{question}}. [[Parts in brackets]] vanish when their column is empty.",
    )
    completion: str = Field(
        "",
        max_length=MAX_TEMPLATE,
        title="Completion",
        description="What the model learns to answer, such as {{answer}}.",
    )
    reasoning: str = Field(
        "",
        max_length=MAX_TEMPLATE,
        title="Reasoning",
        description="Thoughts before the answer, learned as <think>…</think>. Usually a column, or empty.",
    )
    history: OptionalText = Field(
        None,
        title="History",
        description="Earlier turns of a pair: the column that holds them, as [[question, answer], …].",
    )
    messages: OptionalText = Field(
        None, title="Conversations", description="For chat data: the column that holds the conversation."
    )
    tools: OptionalText = Field(
        None, title="Tools", description="For chat data: the column that holds the tools, if there is one."
    )
    text: OptionalText = Field(
        None, max_length=MAX_TEMPLATE, title="Text", description="For plain text: the column. All of it is learned."
    )

    @field_validator("system", "prompt", "completion", "reasoning", "text")
    @classmethod
    def _braces_close(cls, value: str | None) -> str | None:
        parse(value or "")
        return value

    @model_validator(mode="after")
    def _one_shape(self) -> PromptTemplate:
        pair = bool(self.prompt.strip() or self.completion.strip())
        if self.text and (
            pair or any((self.messages, self.system.strip(), self.reasoning.strip(), self.tools, self.history))
        ):
            raise ValueError(
                "“text” is learned as it stands, so it goes with no other part. Empty the others, or empty “text”."
            )
        if self.messages and self.prompt.strip():
            raise ValueError("“messages” and “prompt” both say what is asked. Keep one of them.")
        if self.history and not self.prompt.strip():
            raise ValueError("“history” stands before a prompt. Write the prompt, too.")
        if self.tools and not self.messages:
            raise ValueError("“tools” belongs to conversations. Name their column under “messages”.")
        if self.reasoning.strip() and not self.completion.strip():
            raise ValueError("“reasoning” stands before a completion. Write the completion, too.")
        if not (self.text or self.messages or pair):
            raise ValueError(
                "The template is empty. Write a prompt and a completion, or name a column of conversations or text."
            )
        if pair and not self.messages and not (self.prompt.strip() and self.completion.strip()):
            missing = "completion" if self.prompt.strip() else "prompt"
            raise ValueError(f"The {missing} is missing. A pair needs a prompt and a completion.")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """What the template takes from a row, in order of first use and as it is written: `answers[0].text` is one entry."""
        if self.text:
            return _names(self._text)
        direct = [column for column in (self.history, self.messages, self.tools) if column]
        return tuple(
            dict.fromkeys([*_names(self.system, self.prompt), *direct, *_names(self.reasoning, self.completion)])
        )

    @property
    def prompt_columns(self) -> tuple[str, ...]:
        """What a chat turn has to supply: the columns of system and prompt."""
        return _names(self.system, self.prompt)

    @property
    def _text(self) -> str:
        """`text` as a template: a bare name is the column of that name."""
        assert self.text
        return self.text if _names(self.text) else "{{" + self.text + "}}"

    def check(self, columns: Sequence[str]) -> None:
        """UserError names everything that the template asks for and these columns do not have."""
        wrong = [unknown(name, list(columns)) for name in self.columns if column_of(name, columns) is None]
        for part, template in (("prompt", self.prompt), ("completion", self.completion)):
            single = next((column for column in columns if "{" + column + "}" in template), None)
            if single is not None and not _names(template):
                wrong.append(f"The {part} says {{{single}}}. A column takes two braces: {{{{{single}}}}}.")
        if not self.columns:
            wrong.append("The template uses no column, so every row would be the same. Add {{a column}}.")
        if wrong:
            raise UserError(" ".join(wrong))

    def render(self, row: Mapping[str, object]) -> list[dict]:
        """The messages of a row, the tools on the first of them. UserError says why the row cannot be learned from."""
        if self.text:
            return [{"role": "text", "content": self._filled("text", self._text, row)}]
        if self.messages:
            messages = read_conversation(lookup(row, self.messages), self.messages)
        else:
            messages = [{"role": "user", "content": self._filled("prompt", self.prompt, row)}]
        if self.history:
            messages = [*read_history(lookup(row, self.history), self.history), *messages]
        if self.messages and self.completion.strip():  # the conversation asks; trl learns no answer in it either
            messages = [_unlearned(message) for message in messages]
        if self.completion.strip():
            messages.append({"role": "assistant", "content": self._filled("completion", self.completion, row)})
        if (reasoning := fill(self.reasoning, row)).strip():
            messages[-1]["reasoning_content"] = reasoning
        messages = [*self._system(row, messages), *messages]
        if not any(message["role"] == "assistant" for message in messages):
            raise UserError(
                f"The conversation in column “{self.messages}” has no assistant turn, so there is nothing to learn."
            )
        if self.tools and (tools := read_tools(lookup(row, self.tools), self.tools)):
            messages[0]["tools"] = tools
        return messages

    def turn(
        self, text: str, values: Mapping[str, str] = MappingProxyType({}), history: Sequence[dict] = ()
    ) -> list[dict]:
        """The messages of a chat request: system, history, and what the user says now.

        `values` supplies the prompt's columns, and `text` the one that is missing. Where several are missing, or none is,
        `text` is said as it stands. Columns that only the system prompt has are empty unless `values` has them.
        """
        if self.text:
            return [*history, {"role": "text", "content": _said(text)}]
        missing = [column for column in _names(self.prompt) if column not in values]
        if len(missing) == 1:
            said = fill(self.prompt, {**values, missing[0]: _said(text)})
        elif not missing and not text.strip() and self.prompt:
            said = self._filled("prompt", self.prompt, values)
        else:
            said = _said(text)
        supplied = dict.fromkeys(_names(self.system), "") | dict(values)
        return [*self._system(supplied, history), *history, {"role": "user", "content": said}]

    def _system(self, row: Mapping[str, object], messages: Sequence[dict]) -> list[dict]:
        """The system message, unless the conversation brings its own or it is empty."""
        if messages and messages[0]["role"] == "system":
            return []
        content = fill(self.system, row)
        return [{"role": "system", "content": content}] if content.strip() else []

    def _filled(self, part: str, template: str, row: Mapping[str, object]) -> str:
        content = fill(template, row)
        if not content.strip():
            used = " and ".join(f"“{name}”" for name in _names(template)) or "the template"
            raise Unfilled(f"The {part} is empty: there is nothing in {used}. Fill it or leave the row out.")
        return content


def _names(*templates: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for template in templates for name in names(parse(template))))


def _unlearned(message: dict) -> dict:
    return message | {"weight": 0} if message["role"] == "assistant" else message


def _said(text: str) -> str:
    if not text.strip():
        raise UserError("There is no message yet. Write what the model should answer.")
    return text
