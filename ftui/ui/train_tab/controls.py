"""The controls: start, queue, resume, stop and discard, and the box that overrules the doctor."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import gradio as gr

from ftui.background import BackgroundTrainer
from ftui.config import RunConfig
from ftui.runs import ENDED, WORKING, Run
from ftui.ui.draft import Draft
from ftui.ui.events import AT_ONCE, ONCE, PRIVATE, QUIET, telling
from ftui.ui.language import Voice, say
from ftui.ui.preview import Preview
from ftui.ui.question import Question
from ftui.ui.train_tab.now import Now
from ftui.ui.train_tab.parts import Parts


class Controls:
    def __init__(self, trainer: BackgroundTrainer, preview: Preview) -> None:
        self.trainer, self.preview = trainer, preview
        with gr.Row():
            self.start = gr.Button(say("Start training"), variant="primary", elem_id="start")
            self.stop = gr.Button(say("Stop and keep"), variant="stop", interactive=False, elem_id="stop")
        self.anyway = gr.Checkbox(
            False, label=say("Start although the doctor objects"), visible=False, elem_id="anyway"
        )
        with gr.Row():
            self.queue = gr.Button(say("Add to the queue"), visible=False, elem_id="queue")
            self.discard = gr.Button(say("Discard"), visible=False, elem_id="discard")
            self.resume = gr.Button(say("Resume this run"), variant="primary", visible=False, elem_id="resume")
        self.question = Question(trainer, "train_")
        self.shown = gr.Textbox(visible=False)  # the run that this page shows, whichever works by the time of a click
        self.outputs = [self.start, self.stop, self.queue, self.discard, self.resume, self.shown]

    def show(self, now: Now, voice: Voice) -> list[Any]:
        state = now.run.state if now.run else ""
        works = state in (*WORKING, "queued") and now.run not in now.waiting
        early = state in ENDED and state != "done"
        return [
            gr.Button(interactive=not works),
            gr.Button(interactive=works and not (now.run and now.run.stop_wanted)),
            gr.Button(visible=works),
            gr.Button(visible=works and not (now.run and now.run.discarding)),
            gr.Button(visible=early),
            now.run.run_id if now.run else "",
        ]

    def begin(self, draft: Draft, parts: Parts) -> None:
        beginning = {"inputs": [self.anyway, *draft.inputs], "outputs": [self.anyway, *parts.outputs]}

        @self.start.click(**beginning, **PRIVATE, **ONCE)
        def start_run(request: gr.Request, anyway: bool, *values: Any) -> list[Any]:
            return carry_out(self.trainer.start, Voice(request), anyway, values)

        @self.queue.click(**beginning, **PRIVATE, **ONCE)
        def queue_run(request: gr.Request, anyway: bool, *values: Any) -> list[Any]:
            return carry_out(self.trainer.queue, Voice(request), anyway, values)

        def carry_out(
            work: Callable[[RunConfig], Run], voice: Voice, anyway: bool, values: tuple[Any, ...]
        ) -> list[Any]:
            with telling():
                config = draft.read(values)
                held = not anyway and self._objects(config, voice)
                if not held:
                    work(config)
            return [gr.Checkbox(False, visible=held), *parts.show(voice)]

        @self.resume.click(outputs=parts.outputs, **PRIVATE, **ONCE)
        def resume_run(request: gr.Request) -> list[Any]:
            with telling():
                if run := parts.now.run:
                    self.trainer.resume(run)
            return parts.show(Voice(request))

    def end(self, parts: Parts) -> None:
        """Stop keeps what was learned and does not ask; Discard does."""

        @self.stop.click(inputs=self.shown, outputs=parts.outputs, **AT_ONCE)
        def stop_run(shown: str, request: gr.Request) -> list[Any]:
            run = self.trainer.at_work
            if run and run.run_id == shown:
                run.stop()
            return parts.show(Voice(request))

        @self.discard.click(outputs=self.question.outputs, **QUIET)
        def ask_to_discard(request: gr.Request) -> list[Any]:
            run = parts.now.run
            return self.question.ask("discard", run, Voice(request)) if run else self.question.close()

        self.question.wire().then(**parts.anew)

    def _objects(self, config: RunConfig, voice: Voice) -> bool:
        """Whether the doctor holds this run back; says so."""
        errors = self.preview.look(config).errors
        if errors:
            said = " · ".join(voice.known(problem.message) for problem in errors[:5])
            held = voice(
                "Not started. {reasons} Mend the rows on the Data tab, or tick the box under the button.", reasons=said
            )
            gr.Warning(escape(held, quote=False), duration=20)
        return bool(errors)
