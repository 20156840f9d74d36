"""What a data set seems to be, and the template that fits: a first guess that the page shows and the user corrects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from ftui.errors import listed
from ftui.template.columns import Columns
from ftui.template.conversation import are_alternating, is_conversation
from ftui.template.placeholders import parsed
from ftui.template.prompt import PromptTemplate
from ftui.template.written import written_turns

Format = Literal[
    "messages",
    "sharegpt",
    "alpaca",
    "prompt_completion",
    "question_answer",
    "reasoning",
    "preference",
    "stepwise",
    "text",
    "labels",
    "slots",
    "unknown",
]


CONTEXT = ("context", "passage", "paragraph", "schema")
ASIDE = (
    "id", "idx", "index", "url", "link", "source", "date", "time", "timestamp", "title", "author", "meta", "metadata", "split",
    "lang", "language",
)  # fmt: skip


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


def _hold(column: str | None) -> str:
    return "{{" + column + "}}" if column else ""


def _optional(column: str | None, after: str = "\n\n", before: str = "") -> str:
    return f"[[{before}{_hold(column)}{after}]]" if column else ""


def _unwanted(columns: Columns) -> str:
    """The rest of a sentence where the data holds answers that nobody wants."""
    verdict = columns.verdict
    return (
        f" “{verdict}” says which answers are good. The bad ones would be learned, too: the doctor leaves them out with one click."
        if verdict
        else ""
    )


def _preference(columns: Columns) -> Proposal | None:
    if columns.sides is None:
        return _ranked(columns)
    chosen, rejected = columns.sides
    template = _preferred(columns, chosen)
    note = f"Preference pairs. Plain fine-tuning learns the preferred answers in “{chosen}”; “{rejected}” is not used."
    return Proposal("preference", template, note) if template else None


def _ranked(columns: Columns) -> Proposal | None:
    """Nectar's `answers: [{answer, rank}]`, the best first."""
    asked, ranked = columns.one("prompt", "question", "instruction"), columns.one("answers", "responses")
    answers = columns.first(ranked)
    first = answers[0] if isinstance(answers, list) and answers else None
    if not asked or not isinstance(first, dict) or str(first.get("rank")).removesuffix(".0") != "1":
        return None
    said = next((key for key in ("answer", "response", "text") if isinstance(first.get(key), str)), None)
    if said is None:
        return None
    spot = f"{ranked}[0].{said}"
    template = PromptTemplate(messages=asked, completion=_hold(spot)) if is_conversation(columns.first(asked)) else None
    template = template or PromptTemplate(system=_hold(columns.system), prompt=_hold(asked), completion=_hold(spot))
    note = f"Answers in “{ranked}” with their ranks. Plain fine-tuning learns the first; the others are not used."
    return Proposal("preference", template, note)


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
        system=_hold(columns.system),
        prompt=_hold(question) + _optional(context, "", "\n\n"),
        completion=_hold(spot),
        history=_history(columns),
    )


def _stepwise(columns: Columns) -> Proposal | None:
    """trl's stepwise supervision: a question, the steps of an answer, and which of them are right."""
    asked, steps, verdict = columns.text("prompt", "question", "problem"), columns.steps, columns.verdict
    if not asked or not steps or not verdict:
        return None
    note = (
        f"Questions in “{asked}”, answers step by step in “{steps}”. All steps of a row are learned as one answer, a line each. "
        f"“{verdict}” says which steps are right; it is not learned. Rows with a wrong step would be learned, too, and half "
        "an answer would teach to stop halfway: the doctor leaves them out with one click."
    )
    template = PromptTemplate(system=_hold(columns.system), prompt=_hold(asked), completion=_hold(f"{steps}[*]"))
    return Proposal("stepwise", template, note)


def _conversation(columns: Columns) -> Proposal | None:
    names = ("messages", "conversations", "conversation", "contents", "dialogue", "dialog", "chat", "turns")
    column = columns.conversation(*names)
    if column is None:
        column = columns.one(*names, "data")
        if column is None or not are_alternating(columns.first(column)):
            return None
    return _of_conversations(columns, column)


def _written_conversation(columns: Columns) -> Proposal | None:
    """Guanaco's text, ChatML, and other turns with marks: learned as turns, so that only the answers are learned.

    AutoTrain's `text` may also be a list of messages.
    """
    only = columns.all[0] if len(columns.all) == 1 else None
    column = columns.one("text", "content", "prompt") or only
    return _of_conversations(columns, column) if column and is_conversation(columns.first(column)) else None


def _of_conversations(columns: Columns, column: str) -> Proposal:
    cell = columns.first(column)
    turns = cell.get("messages") if isinstance(cell, dict) else cell
    if isinstance(cell, str):
        turns = None if written_turns(cell) else parsed(cell, "", column)
    turn = turns[0] if isinstance(turns, list) else turns
    system, tools = columns.system, columns.one("tools", "functions")
    along = f", with tools in “{tools}”" if tools else ""
    along = f", with the system prompt in “{system}”{along}" if system else along
    template = PromptTemplate(messages=column, system=_hold(system), tools=tools)
    if turns is None:
        said = f"Conversations written into the text of column “{column}” with marks such as ### Human: and ### Assistant:, read as turns{along}."
    elif isinstance(turn, dict) and "role" in turn:
        said = f"Conversations as OpenAI writes them, in column “{column}”{along}."
    elif isinstance(turn, dict) and "from" in turn:
        said = f"Conversations as ShareGPT writes them (from and value), in column “{column}”{along}."
    else:
        said = f"Conversations in column “{column}”, user and assistant in turn{along}."
    kind = "sharegpt" if isinstance(turn, dict) and "from" in turn else "messages"
    return Proposal(kind, template, said + _unwanted(columns))


def _spoken_pair(columns: Columns) -> Proposal | None:
    """TRL's conversational prompt and completion, and prompts into which a conversation was written."""
    asked, answered = columns.conversation("prompt"), columns.one("completion", "response", "answer")
    if not asked or not answered:
        return None
    spot = f"{answered}[0].content" if isinstance(columns.first(answered), list) else answered
    template = PromptTemplate(messages=asked, completion=_hold(spot))
    note = f"Conversations in “{asked}”, each with its answer in “{answered}”."
    return Proposal("prompt_completion", template, note + _unwanted(columns))


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
    template = PromptTemplate(
        system=_hold(columns.system),
        prompt=_with_context(columns, asked),
        reasoning=_hold(thoughts),
        completion=_hold(answered),
        history=_history(columns),
    )
    return Proposal(
        "reasoning", template, f"Questions in “{asked}”, thoughts in “{thoughts}”, answers in “{answered}”."
    )


def _with_context(columns: Columns, asked: str) -> str:
    """The question with what it is to be answered from: before it, or, as Alpaca's input, behind it."""
    context = columns.text(*CONTEXT)
    extra = columns.one("input") if columns.one("instruction") == asked else None
    return _optional(context if context != asked else None) + _hold(asked) + _optional(extra, "", "\n\n")


def _history(columns: Columns) -> str | None:
    """Earlier turns, where any of the first rows has some."""
    column = columns.one("history")
    cells = columns.some(column) if column else []
    return column if cells and all(is_conversation(cell) or cell == "[]" for cell in cells) else None


def _instruction(columns: Columns) -> Proposal | None:
    asked, answered = columns.text("instruction"), columns.answer("output", "response", "completion", "answer")
    if not asked or not answered:
        return None
    extra = columns.one("input", "context")
    template = PromptTemplate(
        system=_hold(columns.system),
        prompt=_hold(asked) + _optional(extra, "", "\n\n"),
        completion=_hold(answered),
        history=_history(columns),
    )
    note = (
        f"Instructions in “{asked}” with “{extra}”, answers in “{answered}” (Alpaca)."
        if extra
        else f"Instructions in “{asked}”, answers in “{answered}” (Alpaca)."
    )
    if template.history:
        note += f" Earlier turns in “{template.history}” come before them and are learned, too."
    return Proposal("alpaca", template, note + _unwanted(columns))


def _asked(columns: Columns) -> str | None:
    return columns.text("question", "prompt", "query", "problem", "instruction", "input")


def _answered(columns: Columns) -> str | None:
    return columns.answer("answer", "response", "completion", "output", "solution")


def _question(columns: Columns) -> Proposal | None:
    asked = columns.text("question")
    answered = columns.answer("answer", "response", "solution", "sql", "code") or _squad_answer(columns)
    if not asked or not answered:
        return None
    context = columns.text(*CONTEXT)
    template = PromptTemplate(
        system=_hold(columns.system),
        prompt=_with_context(columns, asked),
        completion=_hold(answered),
        history=_history(columns),
    )
    note = (
        f"Questions in “{asked}”, answers in “{answered}”, with “{context}” to answer from."
        if context
        else f"Questions in “{asked}”, answers in “{answered}”."
    )
    return Proposal("question_answer", template, note + _unwanted(columns))


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
        asked, answered = columns.text(names[0]), columns.answer(names[1])
        if asked and answered:
            template = PromptTemplate(
                system=_hold(columns.system),
                prompt=_hold(asked),
                completion=_hold(answered),
                history=_history(columns),
            )
            note = f"Prompts in “{asked}”, completions in “{answered}”."
            return Proposal("prompt_completion", template, note + _unwanted(columns))
    return None


def _recipe(columns: Columns) -> Proposal | None:
    title, ingredients, entities = columns.text("title"), columns.one("ingredients"), columns.one("ner")
    if not title or not ingredients or not entities:
        return None
    prompt = f"Title: {_hold(title)}\n\nIngredients: {_hold(ingredients)}\n\nGeneric ingredients: "
    template = PromptTemplate(prompt=prompt, completion=_hold(entities))
    return Proposal("prompt_completion", template, f"Recipes: “{title}” and “{ingredients}” ask, “{entities}” answers.")


def _slots(columns: Columns) -> Proposal | None:
    """Utterances with their intent and their slots, as Snips and Rasa write them."""
    text, slots = columns.text("text", "utterance", "sentence", "query"), columns.one("slots", "entities")
    if not text or not isinstance(columns.first(slots), dict | list):
        return None
    intent = columns.text("intent", "label", "category")
    answer = f'{{"intent": "{_hold(intent)}", "slots": {_hold(slots)}}}' if intent else _hold(slots)
    said = f"“{intent}” and “{slots}”" if intent else f"“{slots}”"
    note = f"Sentences in “{text}”, answered with {said} as JSON."
    return Proposal("slots", PromptTemplate(prompt=_hold(text), completion=answer), note)


def _labels(columns: Columns) -> Proposal | None:
    text = columns.text("text", "sentence", "utterance", "tweet", "review", "content", "query")
    label = columns.one(
        "label_text", "label_name", "label", "category", "intent", "sentiment", "emotion", "class", "topic"
    )
    if not text or not label or columns.first(label) is None:
        return None
    template = PromptTemplate(prompt=_hold(text), completion=_hold(label))
    return Proposal("labels", template, f"Texts in “{text}”, each with its label in “{label}”.")


def _two(columns: Columns) -> Proposal | None:
    """Two columns of text whose names say little."""
    if len(columns.filled) != 2 or columns.one(*ASIDE):
        return None
    asked, answered = columns.filled
    if columns.one("text", "input", "content") == answered:
        asked, answered = answered, asked
    cells = [cell for column in columns.all for cell in columns.some(column)]
    if not all(isinstance(cell, str) and any(map(str.isalpha, cell)) for cell in cells):
        return None
    template = PromptTemplate(prompt=_hold(asked), completion=_hold(answered))
    note = f"Two columns of text: “{asked}” asks and “{answered}” answers. That is a guess; choose others where it is wrong."
    return Proposal("prompt_completion", template, note)


def _text(columns: Columns) -> Proposal | None:
    only = columns.filled[0] if len(columns.filled) == 1 else None
    column = columns.text("text", "content", "document", "body", "note", "markdown")
    if column is None and only and isinstance(columns.first(only), str):
        column = only
    if column is None:
        return None
    marks = ("<|im_start|>", "<|start_header_id|>", "[INST]", "### Instruction:", "### Response:", "### Assistant:")
    mark = next((mark for mark in marks if mark in str(columns.first(column))), None)
    note = f"Plain text in column “{column}”; all of it is learned."
    if mark:
        note += f" It is already formatted for a model ({mark}), so it is learned as it stands."
    return Proposal("text", PromptTemplate(text=column), note)


def _unknown(columns: Columns) -> Proposal:
    return Proposal(
        "unknown",
        None,
        f"The columns are {listed(columns.all, 20)}. Say which ask and which answer: write {{{{column}}}} into prompt and completion.",
    )


LOOKS: tuple[Callable[[Columns], Proposal | None], ...] = (
    _preference, _stepwise, _conversation, _spoken_pair, _reasoning, _instruction, _question, _written_conversation, _pair, _recipe, _slots,
    _labels, _two, _text,
)  # fmt: skip
