"""The waiting line: the runs that begin when those before them have ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from ftui.background import BackgroundTrainer
from ftui.errors import UserError
from ftui.runs import Run
from ftui.ui.events import ONCE, PRIVATE, UNSEEN, telling
from ftui.ui.language import Voice, say
from ftui.ui.run_html import run_title
from ftui.ui.train_tab.now import Now
from ftui.ui.train_tab.parts import Parts

RESTS = "These runs waited when ftui ended. They begin after the next run that you start or resume, or now:"


class Waiting:
    def __init__(self, trainer: BackgroundTrainer) -> None:
        self.trainer = trainer
        with gr.Column(visible=False, elem_id="line") as self.line:
            self.runs = gr.Radio([], label=say("Waiting"), elem_id="waiting")  # all of them, in their order
            self.note = gr.Markdown(say(RESTS), visible=False, elem_classes="quiet", elem_id="rests")
            with gr.Row():
                self.up = gr.Button(say("Move up"), size="sm")
                self.remove = gr.Button(say("Take out"), size="sm")
                self.begin = gr.Button(say("Start the queue"), size="sm", visible=False, elem_id="go_on")
        self.outputs = [self.line, self.runs, self.note, self.begin]

    def show(self, now: Now, voice: Voice) -> list[Any]:
        named = [(f"{place}. {run_title(run, voice)}", run.run_id) for place, run in enumerate(now.waiting, 1)]
        resting = [gr.Markdown(visible=now.rests), gr.Button(visible=now.rests)]
        # No value: what a person has chosen stays so when another begins, and nothing is chosen for them.
        return [gr.Column(visible=bool(named)), gr.Radio(choices=named), *resting]

    def wire(self, parts: Parts) -> None:
        # Gradio itself would look for the choice among those that it drew the page with.
        chosen = {"inputs": self.runs, "outputs": parts.outputs, "preprocess": False, **UNSEEN}

        @self.up.click(**chosen)
        def move_up(request: gr.Request, run_id: str | None) -> list[Any]:
            return change(self.trainer.move_up, run_id, Voice(request))

        @self.remove.click(**chosen)
        def take_out(request: gr.Request, run_id: str | None) -> list[Any]:
            return change(self.trainer.remove, run_id, Voice(request))

        @self.begin.click(outputs=parts.outputs, **PRIVATE, **ONCE)
        def start_queue(request: gr.Request) -> list[Any]:
            with telling():
                self.trainer.go_on()
            return parts.show(Voice(request))

        def change(act: Callable[[Run], None], run_id: str | None, voice: Voice) -> list[Any]:
            with telling():
                run = next((run for run in self.trainer.waiting if run.run_id == run_id), None)
                if run is None:
                    raise UserError("Choose one of the runs that wait.")
                act(run)
            return parts.show(voice)
