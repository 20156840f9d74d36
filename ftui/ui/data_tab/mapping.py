"""The mapping: the template's texts, and a choice of columns for each role. Each follows the other."""

from __future__ import annotations

import gradio as gr

from ftui.template import PromptTemplate
from ftui.template.mapping import NAMED, PARTS, ROLES, WRITTEN, roles_in, with_role
from ftui.ui.events import BRIEFLY, LATEST, QUIET
from ftui.ui.fieldset import Fields
from ftui.ui.language import say

LABELS = {
    "system": "System", "question": "Question", "context": "Context", "answer": "Answer", "reasoning": "Reasoning",
    "history": "History", "messages": "Conversations", "tools": "Tools", "text": "Text",
}  # fmt: skip
NO_COLUMN = ("—", "")


class Mapping:
    """`roles`: the choices, by role; they come with the rows. `parts`: the inputs of the template, in the order of PARTS."""

    def __init__(self, first: PromptTemplate) -> None:
        gr.Markdown(say("Choose the column for each role, or write {{column}} yourself."))
        self.roles = _choices(first)
        written: Fields = {
            "system": gr.Textbox(first.system, label=say("System"), lines=2, elem_id="template_system"),
            "prompt": gr.Textbox(first.prompt, label=say("Prompt"), lines=3, elem_id="template_prompt"),
            "completion": gr.Textbox(first.completion, label=say("Completion"), lines=2, elem_id="template_completion"),
            "reasoning": gr.Textbox(
                first.reasoning,
                label=say("Reasoning"),
                info=say(str(PromptTemplate.model_fields["reasoning"].description)),
                lines=1,
                elem_id="template_reasoning",
            ),
        }
        named = {part: self.roles[part] for part in NAMED}
        self.fields: Fields = {f"template.{part}": box for part, box in {**written, **named}.items()}
        self.parts = [self.fields[f"template.{part}"] for part in PARTS]

    def wire(self) -> None:
        shown = [self.roles[role] for role in ROLES]

        def show_roles(*written: str | None) -> list[str]:
            roles = roles_in(dict(zip(PARTS, written, strict=True)))
            return [roles[role] for role in ROLES]

        for role, choice in self.roles.items():

            def put_column(column: str | None, *written: str | None, role: str = role) -> list[str | None]:
                return list(with_role(dict(zip(PARTS, written, strict=True)), role, column).values())

            placed = choice.input(put_column, [choice, *self.parts], self.parts, **BRIEFLY)
            placed.then(show_roles, self.parts, shown, **QUIET)  # also where nothing that is written changed

        changes = [self.fields[f"template.{part}"].change for part in WRITTEN]
        gr.on(changes, show_roles, self.parts, shown, **QUIET, **LATEST)


def _choices(first: PromptTemplate) -> Fields:
    """A path into a column can be written, too."""
    written = first.model_dump()
    roles = roles_in(written) | {part: written[part] or "" for part in NAMED}
    made: Fields = {}
    with gr.Row():
        for role, label in LABELS.items():
            made[role] = gr.Dropdown(
                [NO_COLUMN],
                value=roles[role],
                label=say(label),
                allow_custom_value=True,
                min_width=160,
                interactive=True,
                elem_id=f"role_{role}",
            )
    return made
