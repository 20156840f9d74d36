"""The talk: the conversation, the message, and the exact prompt that the model was asked with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from ftui.runs import Run
from ftui.ui.chat_tab.chooser import Chooser, why_not
from ftui.ui.chat_tab.replies import Replies
from ftui.ui.events import AT_ONCE, UNSEEN
from ftui.ui.language import Voice, say

ONE_AT_A_TIME = {"concurrency_id": "accelerator", "concurrency_limit": 1}


class Talk:
    def __init__(self) -> None:
        self.conversation = gr.Chatbot(
            label=say("Chat"),
            height=460,
            allow_tags=False,
            reasoning_tags=[("<think>", "</think>")],
            placeholder=say("Ask something. The model chosen beside this answers."),
            buttons=["copy"],
            elem_id="conversation",
        )
        self.message = gr.Textbox(
            label=say("Message"),
            placeholder=say("Write a message and press Enter"),
            lines=1,
            max_lines=12,
            elem_id="message",
        )
        with gr.Row():
            self.send = gr.Button(say("Send"), variant="primary", interactive=False, elem_id="send")
            self.halt = gr.Button(say("Stop"), variant="stop", interactive=False, elem_id="halt")
            self.retry = gr.Button(say("Retry"), interactive=False, elem_id="retry")
            self.clear = gr.Button(say("Clear"), interactive=False, elem_id="clear")
        with gr.Accordion(say("The exact prompt"), open=False, elem_id="exact_fold"):
            self.exact = gr.Code(
                language=None, label=say("The exact prompt"), interactive=False, elem_id="exact", wrap_lines=True
            )
        self.outputs = [self.message, self.send, self.halt, self.retry, self.clear]

    def show(self, run: Run | None, voice: Voice) -> list[Any]:
        """Useless while nothing can be asked; then the message says why."""
        problem = why_not(run)
        asks = voice.known(problem) if problem else voice("Write a message and press Enter")
        buttons = [gr.Button(interactive=not problem) for _ in self.outputs[1:]]
        return [gr.Textbox(interactive=not problem, placeholder=asks), *buttons]

    def wire(self, replies: Replies, chooser: Chooser) -> None:
        chosen = [chooser.run, chooser.which, chooser.system, chooser.remember, *chooser.columns]
        chosen += chooser.settings.values()
        answering = {**ONE_AT_A_TIME, **UNSEEN}
        written = [self.conversation, self.exact]

        @gr.on(
            [self.send.click, self.message.submit],
            inputs=[self.message, self.conversation, *chosen],
            outputs=[self.message, *written],
            **answering,
        )
        def send_message(request: gr.Request, text: str, shown: list[dict[str, Any]], *chosen: Any) -> Iterator[Any]:
            if not text.strip():
                return
            shown = [*shown, {"role": "user", "content": text}]
            for conversation, prompt in replies.answer(request, shown, chosen):
                yield "", conversation, prompt

        @self.retry.click(inputs=[self.conversation, *chosen], outputs=written, **answering)
        def retry_reply(request: gr.Request, shown: list[dict[str, Any]], *chosen: Any) -> Iterator[Any]:
            while shown and shown[-1]["role"] == "assistant":
                shown = shown[:-1]
            if shown:
                yield from replies.answer(request, shown, chosen)

        @self.halt.click(**AT_ONCE)
        def stop_reply(request: gr.Request) -> None:
            replies.stop(request)

        @self.clear.click(outputs=written, **AT_ONCE)
        def clear_conversation() -> tuple[list[Any], str]:
            return [], ""
