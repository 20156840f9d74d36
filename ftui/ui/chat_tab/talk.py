"""The talk: the conversation, the message, and the exact prompt that the model was asked with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from ftui.runs import Run
from ftui.ui.chat_tab.chooser import Chooser, why_not
from ftui.ui.chat_tab.replies import Replies
from ftui.ui.events import AT_ONCE, ONCE, QUIET, UNSEEN
from ftui.ui.language import Voice, say

# Whoever comes second is told so, and does not wait without a word.
UNQUEUED: dict[str, Any] = {"concurrency_limit": None}


class Talk:
    def __init__(self) -> None:
        self.conversation = gr.Chatbot(
            label=say("Chat"),
            height=460,
            allow_tags=False,
            reasoning_tags=[("<think>", "</think>")],
            placeholder=say("Ask something. The model that you chose answers."),
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

    def show(self, run: Run | None, voice: Voice, is_under_way: bool) -> list[Any]:
        """Useless while nothing can be asked; then the message says why. While a reply is written it can only be stopped."""
        problem = why_not(run)
        asks = voice.known(problem) if problem else voice("Write a message and press Enter")
        return [gr.Textbox(interactive=not problem, placeholder=asks), *self._buttons(is_under_way, not problem)]

    def _buttons(self, is_under_way: bool, can_ask: bool = True) -> list[gr.Button]:
        can = {self.send: can_ask, self.halt: False, self.retry: can_ask, self.clear: can_ask}
        return [gr.Button(interactive=(button is self.halt) if is_under_way else can[button]) for button in can]

    def _growing(self, answer: Iterator[list[Any]]) -> Iterator[list[Any]]:
        """With the buttons of a reply that is under way, at first."""
        buttons: list[Any] = self._buttons(is_under_way=True)
        for each in answer:
            yield [*each, *buttons]
            buttons = [gr.skip() for _ in buttons]

    def wire(self, replies: Replies, chooser: Chooser) -> None:
        answering = {**UNQUEUED, **UNSEEN, **ONCE}
        buttons, written = self.outputs[1:], [self.conversation, self.exact]

        def send_message(request: gr.Request, text: str, shown: list[dict[str, Any]], *chosen: Any) -> Iterator[Any]:
            if not text.strip():
                yield gr.skip()  # an event that yields nothing empties all its outputs
                return
            left: Any = ""  # only once: what is typed while the model answers stays
            for each in self._growing(replies.answer(request, [*shown, {"role": "user", "content": text}], chosen)):
                yield [left, *each]
                left = gr.skip()

        def retry_reply(request: gr.Request, shown: list[dict[str, Any]], *chosen: Any) -> Iterator[Any]:
            while shown and shown[-1]["role"] == "assistant":
                shown = shown[:-1]
            yield from self._growing(replies.answer(request, shown, chosen)) if shown else [gr.skip()]

        def free_buttons() -> list[Any]:
            return self._buttons(is_under_way=False)

        sent = gr.on(
            [self.send.click, self.message.submit],
            send_message,
            [self.message, self.conversation, *chooser.inputs],
            [self.message, *written, *buttons],
            **answering,
        )
        again = self.retry.click(retry_reply, [self.conversation, *chooser.inputs], [*written, *buttons], **answering)
        for ended in (sent.then, sent.failure, again.then, again.failure):  # "then" is left out where it failed
            ended(free_buttons, outputs=buttons, **QUIET)

        @self.halt.click(**AT_ONCE)
        def stop_reply(request: gr.Request) -> None:
            replies.stop(request)

        @self.clear.click(outputs=written, **AT_ONCE)
        def clear_conversation() -> tuple[list[Any], str]:
            return [], ""
