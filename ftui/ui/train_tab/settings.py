"""Every setting by its own name, and the whole config as YAML."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ftui.config import RunConfig
from ftui.ui.draft import Draft
from ftui.ui.events import PRIVATE, telling
from ftui.ui.fieldset import Fields, fieldset, input_of
from ftui.ui.language import say

GROUPS = {"Training": "training", "Adapter": "lora", "Quantization": "quantization", "Evaluation": "evaluation"}
OWN = ("shorten_rows", "watch_prompts")  # settings of the run itself


def settings(first: RunConfig) -> Fields:
    """The inputs under "All settings"; the Data tab reads and fills them, the Train tab draws them."""
    watch = gr.Textbox(
        "\n".join(first.watch_prompts),
        label=say("Watch prompts"),
        info=say("One a line, asked before training and at every check. Empty: three validation rows."),
        lines=3,
        render=False,
    )
    fields: Fields = {}
    for section in GROUPS.values():
        fields |= fieldset(getattr(first, section), section, render=False)
    return fields | {"shorten_rows": input_of(first, "shorten_rows", render=False), "watch_prompts": watch}


def draw_settings(fields: Fields) -> None:
    with gr.Accordion(say("All settings"), open=False, elem_id="settings"):
        for title, section in GROUPS.items():
            gr.Markdown(say(title), elem_classes="group")
            for path, box in fields.items():
                if path.startswith(f"{section}."):
                    box.render()
        for path in OWN:
            fields[path].render()


class Yaml:
    def __init__(self) -> None:
        with gr.Accordion(say("The config as YAML"), open=False):
            self.text = gr.Code(language="yaml", interactive=True, lines=12, elem_id="yaml")
            with gr.Row():
                self.show = gr.Button(say("Show"))
                self.use = gr.Button(say("Use this YAML"))

    def show_draft(self, draft: Draft) -> None:
        @self.show.click(inputs=draft.inputs, outputs=self.text, **PRIVATE)
        def show_config(*values: Any) -> str:
            """What Start would carry out."""
            with telling():
                return draft.read(values).to_yaml()

    def fill(self, draft: Draft) -> gr.events.Dependency:
        def use_config(text: str) -> list[Any]:
            with telling():
                return draft.fill(RunConfig.from_yaml(text))

        return self.use.click(use_config, self.text, draft.inputs, **PRIVATE)
