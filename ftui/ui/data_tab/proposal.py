"""The proposal: the first rows as a table, what was recognized in them, and the template and settings that follow."""

from __future__ import annotations

import json
from html import escape
from typing import Any

import gradio as gr

from ftui.check import suited
from ftui.config import RunConfig
from ftui.dataset import Rows
from ftui.errors import UserError
from ftui.template import Proposal, propose
from ftui.template.mapping import PARTS
from ftui.ui.data_tab.mapping import LABELS, NO_COLUMN, Mapping
from ftui.ui.data_tab.source import first_rows
from ftui.ui.draft import Draft
from ftui.ui.events import BRIEFLY
from ftui.ui.fieldset import Form
from ftui.ui.language import Voice, say

TABLE_CHARS = 84  # so many fit side by side, so that no wide column pushes out the one beside it
MEASURED_ROWS = 2000
SUITED = ("training.", "evaluation.", "split.", "watch_prompts")


class Table:
    """The rows as they come, and the columns to choose from."""

    def __init__(self) -> None:
        self.rows = gr.Dataframe(
            label=say("The rows"),
            interactive=False,
            datatype="str",
            max_height=240,
            buttons=["fullscreen"],
            elem_id="rows",
        )

    def shown(self, reading: Form, mapping: Mapping) -> dict[str, Any]:
        """The event that shows the rows; `reading`: the inputs that say which."""

        def show_rows(*values: Any) -> list[Any]:
            try:
                return table_of(first_rows(reading, values))
            except UserError:  # the check, which comes next, says it
                return _no_table()

        outputs = [self.rows, *mapping.roles.values()]
        return {"fn": show_rows, "inputs": reading.inputs, "outputs": outputs, **BRIEFLY}


def proposed(upload: gr.File, table: Table, recognized: gr.Markdown, mapping: Mapping, draft: Draft) -> dict[str, Any]:
    """The event that reads other rows, shows them, and fills in what suits them."""
    form = draft.form
    fitted = Draft(draft.length, form.part([path for path in form.paths if path.startswith(SUITED)]))

    def propose_template(request: gr.Request, *values: Any) -> list[Any]:
        chosen = [gr.skip() for _ in fitted.inputs]
        try:
            rows = first_rows(form, values)
            proposal = propose(rows)
        except UserError:  # the check, which comes next, says it
            emptied = [None, *_no_table(), ""]  # the upload, too, or the next file would be added to this one
            return [*emptied, *(gr.skip() for _ in PARTS), *chosen]
        voice = Voice(request)
        sentences = _sentences(rows, proposal, voice)
        try:
            template = proposal.template.model_dump() if proposal.template else _any_template(rows)
            config = suited(RunConfig.parse(form.nested(values) | {"template": template, "split": {}}), rows)
            sentences.append(_settings(config, voice))
            chosen = fitted.fill(config)
        except UserError:  # the check, which comes next, says it
            pass
        boxes = [(getattr(proposal.template, part) or "") if proposal.template else "" for part in PARTS]
        return [gr.skip(), *table_of(rows), "\n\n".join(sentences), *boxes, *chosen]

    outputs = [upload, table.rows, *mapping.roles.values(), recognized, *mapping.parts, *fitted.inputs]
    return {"fn": propose_template, "inputs": form.inputs, "outputs": outputs, **BRIEFLY}


def table_of(rows: Rows) -> list[Any]:
    """The first rows, and for each role the columns to choose from."""
    columns = list(rows.columns)
    head = [[_cell(row.get(column)) for column in columns] for row in rows.head(20)]
    choices = [NO_COLUMN, *((column, column) for column in columns)]
    longest = max(20, TABLE_CHARS // max(1, len(columns)))
    shown = gr.Dataframe({"headers": columns, "data": head}, max_chars=longest, visible=True)
    return [shown, *(gr.Dropdown(choices=choices) for _ in LABELS)]


def _no_table() -> list[Any]:
    """Instead of rows that are not those of the file any more."""
    return [gr.Dataframe(visible=False), *(gr.Dropdown(choices=[NO_COLUMN]) for _ in LABELS)]


def _cell(value: object) -> str:
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return "" if value is None else str(value)


def _sentences(rows: Rows, proposal: Proposal, voice: Voice) -> list[str]:
    """What was recognized, and the first thing that is wrong with the file."""
    size = voice("Rows: {rows}, columns: {columns}.", rows=voice.number(len(rows)), columns=len(rows.columns))
    sentences = [f"**{size}** {escape(voice.known(proposal.sentence))}"]
    sentences += [escape(voice.known(note)) for note in rows.notes]
    if rows.problems:
        sentences.append(f"**{len(rows.problems)} ✗** {escape(voice.known(str(rows.problems[0])))}")
    return sentences


def _any_template(rows: Rows) -> dict[str, str]:
    """As long as nobody has said what asks and what answers: any column may answer, so the longest one does."""
    head = rows.head(MEASURED_ROWS)
    *asked, longest = sorted(
        rows.columns, key=lambda column: max((len(_cell(row.get(column))) for row in head), default=0)
    )
    written = "\n".join(f"{{{{{column}}}}}" for column in asked)
    return {"prompt": written, "completion": f"{{{{{longest}}}}}"} if asked else {"text": longest}


def _settings(config: RunConfig, voice: Voice) -> str:
    """What the settings became with these rows, in a sentence."""
    return voice(
        "Chosen for these rows: {epochs} epochs, rows of up to {longest} tokens, answers of up to {answer}. You can change it under Train.",
        epochs=f"{config.training.num_train_epochs:g}",
        longest=voice.number(config.training.max_length),
        answer=voice.number(config.evaluation.max_new_tokens),
    )
