"""The estimate: what the run will take, before the click, and the rehearsal that measures it."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from ftui.background import BackgroundTrainer, Rehearsal
from ftui.device import this_device
from ftui.errors import UserError
from ftui.plan import plan_of
from ftui.ui.draft import Draft
from ftui.ui.events import LATEST, ONCE, PRIVATE, QUIET, UNSEEN, telling
from ftui.ui.language import Voice, say
from ftui.ui.live import plan_html
from ftui.ui.preview import Preview
from ftui.ui.supervision import error_html


class Estimate:
    def __init__(self, trainer: BackgroundTrainer, preview: Preview) -> None:
        self.trainer, self.preview = trainer, preview
        self.planned = gr.HTML(elem_id="plan", padding=False)
        self.rehearse = gr.Button(say("Rehearse: measure it in a few steps"), size="sm", elem_id="rehearse")

    def measure(self, draft: Draft) -> None:
        """Rehearses when asked, and shows what the rehearsal says until it has ended."""
        said = gr.State("")  # by the rehearsal that this page asked for; empty once it has ended
        asking = gr.Timer(1, active=False)  # only while the rehearsal that this page asked for goes on
        rehearsed = [self.planned, self.rehearse, said, asking]

        @self.rehearse.click(inputs=draft.inputs, outputs=rehearsed, **PRIVATE, **ONCE)
        def rehearse_run(request: gr.Request, *values: Any) -> list[Any]:
            with telling():
                config = draft.read(values)
                found = self.preview.look(config)
                return _rehearsal(self.trainer.rehearse(config, found.encoding, found.examples), Voice(request))

        @asking.tick(inputs=said, outputs=rehearsed, **QUIET)
        def show_rehearsal(said: str, request: gr.Request) -> list[Any]:
            rehearsal = self.trainer.rehearsal
            if not said or rehearsal is None or (rehearsal.is_going and rehearsal.said == said):
                return [gr.skip() for _ in rehearsed]
            return _rehearsal(rehearsal, Voice(request))

    def follow(self, draft: Draft, fills: list[gr.events.Dependency], tab: gr.Tab) -> None:
        """Shows the plan of the draft, whenever it was filled in or something it depends on was written."""

        def show_plan(request: gr.Request, *values: Any) -> str:
            """The plan, or what is wrong with the form."""
            try:
                config = draft.read(values)
                found, rehearsed = self.preview.look(config), self.trainer.rehearsed(config)
                plan = rehearsed or plan_of(config, found.examples, found.model_config, this_device())
                return plan_html(plan, Voice(request), config.adapter)
            except UserError as error:
                return error_html(error, Voice(request))

        shows_plan = (show_plan, draft.inputs, self.planned)
        boxes = draft.form.by_path.items()
        typed = [box.blur for path, box in boxes if path.startswith("training.") and isinstance(box, gr.Textbox)]
        for filled in fills:
            filled.then(*shows_plan, **UNSEEN)
        gr.on([tab.select, draft.length.input, *typed], *shows_plan, **UNSEEN, **LATEST)


def _rehearsal(rehearsal: Rehearsal, voice: Voice) -> list[Any]:
    """What a rehearsal says, or the plan that it found; the button; and the sentence, while it goes on."""
    going = rehearsal.is_going
    if rehearsal.plan and not going:
        return [plan_html(rehearsal.plan, voice), gr.Button(interactive=True), "", gr.Timer(active=False)]
    sentence = f"<div class='card plan'><p role='status'>{escape(voice.known(rehearsal.said))}</p></div>"
    return [sentence, gr.Button(interactive=not going), rehearsal.said if going else "", gr.Timer(active=going)]
