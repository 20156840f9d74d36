"""What a data set seems to be, and the template that fits: a first guess that the page shows and the user corrects."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from ftui.template.conversation import is_conversation
from ftui.template.placeholders import parsed
from ftui.template.prompt import PromptTemplate

Format = Literal[
    "messages",
    "sharegpt",
    "alpaca",
    "prompt_completion",
    "question_answer",
    "reasoning",
    "preference",
    "text",
    "labels",
    "unknown",
]


@dataclass(frozen=True)
class Proposal:
    format: Format
    template: PromptTemplate | None
    sentence: str


class Previewable(Protocol):
    """Rows, as far as this file knows them."""

    columns: tuple[str, ...]

    def head(self, n: int) -> list[dict]: ...


def propose(rows: Previewable) -> Proposal:
    """What the columns and the first rows look like. The first look that fits wins, the most telling first."""
    columns = Columns(rows.columns, rows.head(20))
    found = (look(columns) for look in LOOKS)
    return next((proposal for proposal in found if proposal), _unknown(columns))


class Columns:
    """The columns of a data set by their usual names. A name fits as a whole or not at all: “text” is not in “context”."""

    def __init__(self, columns: Sequence[str], head: list[dict]) -> None:
        self.all = columns
        self.head = head
        self._by_name = {re.sub(r"[\s-]+", "_", column.strip().casefold()): column for column in reversed(columns)}

    def one(self, *wanted: str) -> str | None:
        """The first of these names that is a column, as the data set writes it."""
        return next((self._by_name[name] for name in wanted if name in self._by_name), None)

    def first(self, column: str | None) -> object:
        """The first cell of a column that is not empty."""
        return next((row[column] for row in self.head if column and row[column] not in (None, "", [], {})), None)

    def conversation(self, *wanted: str) -> str | None:
        column = self.one(*wanted)
        return column if is_conversation(self.first(column)) else None

    def text(self, *wanted: str) -> str | None:
        column = self.one(*wanted)
        return column if isinstance(self.first(column), str) and not is_conversation(self.first(column)) else None


def _hold(column: str | None) -> str:
    return "{{" + column + "}}" if column else ""


def _optional(column: str | None, after: str = "\n\n", before: str = "") -> str:
    return f"[[{before}{_hold(column)}{after}]]" if column else ""


def _preference(columns: Columns) -> Proposal | None:
    chosen = columns.one("chosen", "preferred_output", "chosen_response", "accepted")
    rejected = columns.one("rejected", "non_preferred_output", "rejected_response", "rejected_text")
    if chosen is None and rejected is not None:
        chosen = columns.text("text")
    if chosen is None or rejected is None:
        return None
    template = _preferred(columns, chosen)
    note = f"Preference pairs. Plain fine-tuning learns the preferred answers in “{chosen}”; “{rejected}” is not used."
    return Proposal("preference", template, note) if template else None


def _preferred(columns: Columns, chosen: str) -> PromptTemplate | None:
    answer = columns.first(chosen)
    turns = answer if isinstance(answer, list) else []
    if is_conversation(answer) and (isinstance(answer, str) or len(turns) > 1):
        return PromptTemplate(messages=chosen)
    turn = turns[0] if turns else answer
    spot = chosen + ("[0]" if turns else "")
    if isinstance(turn, dict):
        spot += ".content" if "content" in turn else ".value"
    asked = columns.conversation("conversations", "conversation", "messages", "prompt", "input")
    if asked:
        path = f"{asked}.messages" if isinstance(columns.first(asked), dict) else asked
        return PromptTemplate(messages=path, completion=_hold(spot))
    question, context = columns.text("prompt", "instruction", "question", "query"), columns.text("input")
    question, context = question or context, context if question else None
    if question is None:
        return None
    return PromptTemplate(
        system=_hold(columns.text("system")),
        prompt=_hold(question) + _optional(context, "", "\n\n"),
        completion=_hold(spot),
    )


def _conversation(columns: Columns) -> Proposal | None:
    column = columns.conversation("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "turns")
    if column is None:
        return None
    turns = parsed(columns.first(column), "", column)
    turn = (turns["messages"] if isinstance(turns, dict) else turns)[0]
    system, tools = columns.text("system", "system_prompt"), columns.one("tools", "functions")
    template = PromptTemplate(messages=column, system=_hold(system), tools=tools)
    along = "".join(
        f", with {what} in “{name}”" for what, name in (("the system prompt", system), ("tools", tools)) if name
    )
    if "role" in turn:
        return Proposal("messages", template, f"Conversations as OpenAI writes them, in column “{column}”{along}.")
    return Proposal(
        "sharegpt", template, f"Conversations as ShareGPT writes them (from and value), in column “{column}”{along}."
    )


def _spoken_pair(columns: Columns) -> Proposal | None:
    """TRL's conversational prompt and completion."""
    asked, answered = columns.conversation("prompt"), columns.conversation("completion")
    if not asked or not answered:
        return None
    template = PromptTemplate(messages=asked, completion=_hold(f"{answered}[0].content"))
    return Proposal("prompt_completion", template, f"Conversations in “{asked}”, each with its answer in “{answered}”.")


def _reasoning(columns: Columns) -> Proposal | None:
    thoughts = columns.text(
        "complex_cot",
        "reasoning",
        "reasoning_content",
        "cot",
        "chain_of_thought",
        "rationale",
        "thinking",
        "thought",
        "thoughts",
    )
    asked, answered = _asked(columns), _answered(columns)
    if not thoughts or not asked or not answered:
        return None
    template = PromptTemplate(prompt=_hold(asked), reasoning=_hold(thoughts), completion=_hold(answered))
    return Proposal(
        "reasoning", template, f"Questions in “{asked}”, thoughts in “{thoughts}”, answers in “{answered}”."
    )


def _instruction(columns: Columns) -> Proposal | None:
    asked, answered = columns.text("instruction"), columns.text("output", "response", "completion", "answer")
    if not asked or not answered:
        return None
    extra = columns.one("input", "context")
    template = PromptTemplate(
        system=_hold(columns.text("system")),
        prompt=_hold(asked) + _optional(extra, "", "\n\n"),
        completion=_hold(answered),
    )
    note = f"Instructions in “{asked}”" + (f" with “{extra}”" if extra else "") + f", answers in “{answered}” (Alpaca)."
    if columns.first(columns.one("history")):
        note += " Earlier turns in “history” are not used."
    return Proposal("alpaca", template, note)


def _asked(columns: Columns) -> str | None:
    return columns.text("question", "prompt", "query", "problem", "instruction", "input")


def _answered(columns: Columns) -> str | None:
    return columns.text("answer", "response", "completion", "output", "solution")


def _question(columns: Columns) -> Proposal | None:
    asked = columns.text("question")
    answered = columns.text("answer", "response", "solution") or _squad_answer(columns)
    if not asked or not answered:
        return None
    context = columns.text("context", "passage", "paragraph")
    template = PromptTemplate(prompt=_optional(context) + _hold(asked), completion=_hold(answered))
    note = f"Questions in “{asked}”, answers in “{answered}”" + (
        f", with “{context}” to answer from." if context else "."
    )
    return Proposal("question_answer", template, note)


def _squad_answer(columns: Columns) -> str | None:
    column = columns.one("answers")
    answers = columns.first(column)
    if isinstance(answers, list) and isinstance(answers[0], dict) and "text" in answers[0]:
        return f"{column}[0].text"
    return f"{column}.text[0]" if isinstance(answers, dict) and isinstance(answers.get("text"), list) else None


PAIRS = (
    ("prompt", "completion"), ("prompt", "response"), ("prompt", "answer"), ("problem", "solution"), ("query", "response"),
    ("input", "output"), ("source", "target"), ("context", "response"), ("target", "meaning_representation"), ("mr", "ref"),
    ("article", "summary"), ("article", "highlights"), ("document", "summary"), ("text", "summary"), ("user", "assistant"),
)  # fmt: skip


def _pair(columns: Columns) -> Proposal | None:
    for names in PAIRS:
        asked, answered = columns.text(names[0]), columns.text(names[1])
        if asked and answered:
            template = PromptTemplate(
                prompt=_hold(asked), completion=_hold(answered), system=_hold(columns.text("system"))
            )
            note = f"Prompts in “{asked}”, completions in “{answered}”."
            if verdict := columns.one("label", "kto_tag"):
                note += (
                    f" “{verdict}” seems to say which are good: leave the bad rows out first, or they are learned, too."
                )
            return Proposal("prompt_completion", template, note)
    return None


def _recipe(columns: Columns) -> Proposal | None:
    title, ingredients, entities = columns.text("title"), columns.one("ingredients"), columns.one("ner")
    if not title or not ingredients or not entities:
        return None
    prompt = f"Title: {_hold(title)}\n\nIngredients: {_hold(ingredients)}\n\nGeneric ingredients: "
    template = PromptTemplate(prompt=prompt, completion=_hold(entities))
    return Proposal("prompt_completion", template, f"Recipes: “{title}” and “{ingredients}” ask, “{entities}” answers.")


def _labels(columns: Columns) -> Proposal | None:
    text = columns.text("text", "sentence", "utterance", "tweet", "review", "content", "query")
    label = columns.one(
        "label_text", "label_name", "label", "category", "intent", "sentiment", "emotion", "class", "topic"
    )
    if not text or not label or columns.first(label) is None:
        return None
    template = PromptTemplate(prompt=_hold(text), completion=_hold(label))
    return Proposal("labels", template, f"Texts in “{text}”, each with its label in “{label}”.")


def _text(columns: Columns) -> Proposal | None:
    only = columns.all[0] if len(columns.all) == 1 else None
    column = columns.text("text", "content", "document", "body", "note", "markdown")
    if column is None and only and isinstance(columns.first(only), str):
        column = only
    if column is None:
        return None
    marks = ("<|im_start|>", "<|start_header_id|>", "[INST]", "### Response:", "### Assistant:")
    mark = next((mark for mark in marks if mark in str(columns.first(column))), None)
    note = f"Plain text in column “{column}”; all of it is learned."
    if mark:
        note += f" It is already formatted for a model ({mark}), so it is learned as it stands."
    return Proposal("text", PromptTemplate(text=column), note)


def _unknown(columns: Columns) -> Proposal:
    listed = ", ".join(columns.all[:20]) + (" …" if len(columns.all) > 20 else "")
    return Proposal(
        "unknown",
        None,
        f"The columns are {listed}. Say which ask and which answer: write {{{{column}}}} into prompt and completion.",
    )


LOOKS: tuple[Callable[[Columns], Proposal | None], ...] = (
    _preference, _conversation, _spoken_pair, _reasoning, _instruction, _question, _pair, _recipe, _labels, _text,
)  # fmt: skip
