"""The mapping: the template's texts, and a choice of columns for each role. Each follows the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
# After the part that is there already.
NEXT = {
    "": "Next, choose the columns for Question and Answer, or write a prompt and a completion. The rows are then checked.",
    "prompt": "Next, choose the column for Answer, or write the completion. The rows are then checked.",
    "completion": "Next, choose the column for Question, or write the prompt. The rows are then checked.",
}


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

    def wire(self) -> list[Callable[..., Any]]:
        """Returns the events after which somebody has changed the mapping; each key press is none."""
        shown = [self.roles[role] for role in ROLES]

        def show_roles(*written: str | None) -> list[str]:
            roles = roles_in(dict(zip(PARTS, written, strict=True)))
            return [roles[role] for role in ROLES]

        chosen = []
        for role, choice in self.roles.items():

            def put_column(column: str | None, *written: str | None, role: str = role) -> list[str | None]:
                """The texts and the roles at once: roles that came by themselves could come after what is typed next."""
                placed = with_role(dict(zip(PARTS, written, strict=True)), role, column).values()
                return [*placed, *show_roles(*placed)]

            chosen.append(choice.input(put_column, [choice, *self.parts], [*self.parts, *shown], **BRIEFLY).then)

        changes = [self.fields[f"template.{part}"].change for part in WRITTEN]
        gr.on(changes, show_roles, self.parts, shown, **QUIET, **LATEST)
        return [*chosen, *(self.fields[f"template.{part}"].blur for part in WRITTEN)]


def next_step(template: dict[str, Any]) -> str:
    """What is still to be chosen before there is anything to check, as a key of the language; empty once there is."""
    written = {part for part, text in template.items() if (text or "").strip()}
    if written & {"text", "messages"} or written >= {"prompt", "completion"}:
        return ""
    return NEXT[next(iter(written & {"prompt", "completion"}), "")]


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
