"""The question that is asked before something goes."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from ftui.background import BackgroundTrainer
from ftui.history import line_of
from ftui.runs import Run
from ftui.ui.events import QUIET, telling
from ftui.ui.language import Voice, say
from ftui.ui.run_html import run_title
from ftui.ui.runs_table import size_of

SENTENCES = {
    "discard": "Stop {run} and throw it away? It goes to the trash and can be restored from there.",
    "delete": "Move {run} to the trash ({size})? It can be restored from there.",
    "empty": "Delete everything in the trash for good ({trash})? This cannot be undone.",
    "rewind": "Continue {run} from step {step}? What was learned after it is gone.",
}


class Question:
    """What is wished waits in `outputs` with the run that it was asked about, whatever the page looks at by then."""

    def __init__(self, trainer: BackgroundTrainer, prefix: str = "") -> None:
        """`prefix` tells its elements from those of another tab."""
        self.trainer = trainer
        self.wish = gr.State("")
        with gr.Column(visible=False, elem_id=f"{prefix}ask", elem_classes="ask") as self.box:
            self.text = gr.Markdown(elem_id=f"{prefix}question")
            with gr.Row():
                self.yes = gr.Button(say("Yes, do it"), variant="stop", size="sm", elem_id=f"{prefix}yes")
                self.no = gr.Button(say("No, leave it"), size="sm", elem_id=f"{prefix}no")
        self.outputs = [self.wish, self.box, self.text]

    def ask(self, what: str, run: Run, voice: Voice, trash_size: int = 0) -> list[Any]:
        """`what`: a key of SENTENCES; after "rewind" a space and the step."""
        verb, _, step = what.partition(" ")
        size, title = size_of(line_of(run).bytes, voice), escape(run_title(run, voice))
        text = voice(SENTENCES[verb], run=f"**{title}**", size=size, trash=size_of(trash_size, voice), step=step)
        return [f"{verb} {run.run_id} {step}", gr.Column(visible=True), text]

    def close(self) -> list[Any]:
        return ["", gr.Column(visible=False), ""]

    def wire(self) -> gr.events.Dependency:
        """Returns the event after which what was asked has been done."""

        def do_it(wish: str) -> list[Any]:
            what, run_id, step = (*wish.split(), "", "", "")[:3]
            with telling():
                if what == "empty":
                    self.trainer.empty_trash()
                elif what == "rewind":
                    self.trainer.resume(self.trainer.store.open(run_id), int(step))
                elif what:
                    self.trainer.discard(self.trainer.store.open(run_id))
            return self.close()

        self.no.click(self.close, outputs=self.outputs, **QUIET)
        return self.yes.click(do_it, self.wish, self.outputs, **QUIET)
