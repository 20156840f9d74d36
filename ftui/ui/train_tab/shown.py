"""The run that is shown: what its folder says now."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from ftui.runs import ENDED
from ftui.ui.language import Voice, say
from ftui.ui.report import proof_html
from ftui.ui.run_html import log_html, losses_html, status_html, watched_html
from ftui.ui.train_tab.now import Now


class Shown:
    def __init__(self) -> None:
        self.status = gr.HTML(elem_id="status", padding=False)
        self.to_chat = gr.Button(say("Chat with the result"), variant="primary", visible=False, elem_id="to_chat")
        self.plot = gr.HTML(elem_id="plot", padding=False)
        self.watched = gr.HTML(elem_id="watched", padding=False)
        self.proof = gr.HTML(elem_id="proof", padding=False)
        with gr.Accordion(say("Log"), open=False):
            self.log = gr.HTML(elem_id="log")
        self.outputs = [self.status, self.to_chat, self.plot, self.watched, self.proof, self.log]

    def show(self, now: Now, voice: Voice) -> list[Any]:
        run = now.run
        if run is None:
            empty = voice("No run yet. Once you press Start training, you see here how it learns.")
            card = f"<div class='card empty'>{escape(empty)}</div>"
            return [card, gr.Button(visible=False), "", "", "", ""]
        events, state = run.events(), run.state
        ended = state in ENDED
        return [
            status_html(run, state, events, voice, now.before),
            gr.Button(visible=ended and (run.merged_dir.is_dir() or run.adapter_dir.is_dir())),
            losses_html(run, voice),
            watched_html(events, voice),
            proof_html(run, voice) if ended else "",
            log_html(events, voice),
        ]
