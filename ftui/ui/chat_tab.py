"""4 Chat: the merged model of a run, its adapter or its base, asked exactly as it was trained."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import gradio as gr

from ftui.chat import ChatModel, ChatSettings, chat_encoding
from ftui.config import checked
from ftui.encoding import Message
from ftui.errors import UserError
from ftui.loop import explain_failure
from ftui.runs import ENDED, Run, RunStore
from ftui.ui.fieldset import fieldset, tell
from ftui.ui.language import say

MOST_COLUMNS = 4


def chat_tab(store: RunStore, chat: ChatModel, to_chat: gr.Button, tabs: gr.Tabs, tab: gr.Tab) -> None:
    stops: dict[str, threading.Event] = {}
    with gr.Row():
        with gr.Column(scale=1):
            run = gr.Dropdown([], label=say("Run"), elem_id="chat_run")
            which = gr.Radio(
                [(say("merged"), "merged"), (say("adapter on its base"), "adapter"), (say("untouched base"), "base")],
                value="merged",
                label=say("Which model"),
                elem_id="which",
            )
            system = gr.Textbox(label=say("System prompt"), lines=3, elem_id="chat_system")
            columns = [gr.Textbox(visible=False, lines=2) for _ in range(MOST_COLUMNS)]
            remember = gr.Checkbox(
                False, label=say("Remember the conversation"), info=say("Off for tasks that were trained row by row.")
            )
            with gr.Accordion(say("How it answers"), open=False):
                settings = fieldset(ChatSettings(), "")
        with gr.Column(scale=2):
            conversation = gr.Chatbot(
                label=say("Chat"),
                height=460,
                allow_tags=False,
                reasoning_tags=[("<think>", "</think>")],
                placeholder=say("Ask something. The model chosen beside this answers."),
                buttons=["copy"],
                elem_id="conversation",
            )
            message = gr.Textbox(
                label=say("Message"),
                placeholder=say("Write a message and press Enter"),
                lines=1,
                max_lines=12,
                elem_id="message",
            )
            with gr.Row():
                send = gr.Button(say("Send"), variant="primary", elem_id="send")
                halt = gr.Button(say("Stop"), variant="stop", elem_id="halt")
                retry = gr.Button(say("Retry"), elem_id="retry")
                clear = gr.Button(say("Clear"), elem_id="clear")
            with gr.Accordion(say("The exact prompt"), open=False, elem_id="exact_fold"):
                exact = gr.Code(
                    language=None, label=say("The exact prompt"), interactive=False, elem_id="exact", wrap_lines=True
                )

    asked = [run, which, system, remember, *columns, *settings.values()]
    about = [run, which, system, remember, *columns]
    chatting = {
        "concurrency_id": "accelerator",
        "concurrency_limit": 1,
        "api_visibility": "private",
        "show_progress": "hidden",
    }

    def answer(shown: list[dict[str, Any]], chosen: tuple[Any, ...], session: str) -> Iterator[Any]:
        """The conversation with its reply growing, and the exact prompt."""
        run_id, which, system, remember, *rest = chosen
        stop = stops[session] = threading.Event()
        try:
            picked = _open(store, run_id)
            wishes = checked(ChatSettings, dict(zip(settings, rest[MOST_COLUMNS:], strict=True)))
            messages = _messages(picked, shown, system, remember, rest[:MOST_COLUMNS])
            prompt = chat_encoding(picked).prompt(messages)
            yield [*shown, {"role": "assistant", "content": "…"}], prompt
            for words in chat.stream(picked, which, messages, wishes, stop):
                yield [*shown, {"role": "assistant", "content": words}], prompt
        except (UserError, RuntimeError, MemoryError) as error:  # the last two: no memory for the model or its reply
            yield shown, ""
            raise tell(UserError(explain_failure(error))) from None
        finally:
            stops.pop(session, None)

    @gr.on(
        [send.click, message.submit],
        inputs=[message, conversation, *asked],
        outputs=[message, conversation, exact],
        **chatting,
    )
    def send_message(request: gr.Request, text: str, shown: list[dict[str, Any]], *chosen: Any) -> Iterator[Any]:
        if not text.strip():
            return
        shown = [*shown, {"role": "user", "content": text}]
        for conversation, prompt in answer(shown, chosen, str(request.session_hash)):
            yield "", conversation, prompt

    @retry.click(inputs=[conversation, *asked], outputs=[conversation, exact], **chatting)
    def retry_reply(request: gr.Request, shown: list[dict[str, Any]], *chosen: Any) -> Iterator[Any]:
        while shown and shown[-1]["role"] == "assistant":
            shown = shown[:-1]
        if shown:
            yield from answer(shown, chosen, str(request.session_hash))

    @halt.click(queue=False, api_visibility="private")
    def stop_reply(request: gr.Request) -> None:
        stop = stops.get(str(request.session_hash))
        if stop:
            stop.set()

    @clear.click(outputs=[conversation, exact], queue=False, api_visibility="private")
    def clear_conversation() -> tuple[list[Any], str]:
        return [], ""

    def show_runs(run_id: str | None) -> list[Any]:
        ready = [run for run in store.list() if run.state in ENDED and run.adapter_dir.is_dir()]
        names = [run.run_id for run in ready]
        chosen = run_id if run_id in names else next(iter(names), None)
        return [gr.Dropdown(choices=names, value=chosen), *_about(store, chosen)]

    def show_newest() -> list[Any]:
        return [gr.Tabs(selected="chat"), *show_runs(None)]

    to_chat.click(show_newest, outputs=[tabs, *about], queue=False, api_visibility="private")
    run.input(
        lambda run_id: _about(store, run_id), inputs=run, outputs=about[1:], queue=False, api_visibility="private"
    )
    tab.select(show_runs, inputs=run, outputs=about, queue=False, api_visibility="private")


def _open(store: RunStore, run_id: str | None) -> Run:
    if not run_id:
        raise UserError("There is no model to chat with yet. Train one first.")
    return store.open(run_id)


def _about(store: RunStore, run_id: str | None) -> list[Any]:
    """Which model, system prompt, memory and column boxes of a run."""
    hidden = [gr.Textbox(visible=False, value="") for _ in range(MOST_COLUMNS)]
    if run_id is None:
        return ["merged", "", False, *hidden]
    run = store.open(run_id)
    template = run.config.template
    given = _given_columns(run)
    boxes = [gr.Textbox(visible=True, label=name, value="") for name in given]
    system = "" if "{{" in template.system else template.system
    return [
        "merged" if run.merged_dir.is_dir() else "adapter",
        system,
        bool(template.messages),
        *boxes,
        *hidden[len(boxes) :],
    ]


def _given_columns(run: Run) -> list[str]:
    """Columns that get a box of their own: all that system and prompt use but the last one of the prompt, which is the message."""
    template = run.config.template
    asked = [column for column in template.prompt_columns if "{{" + column in template.prompt.replace("{{ ", "{{")]
    columns = [column for column in template.prompt_columns if column not in asked[-1:]]
    if len(columns) > MOST_COLUMNS:
        raise UserError(
            f"This run's template uses {len(columns) + 1} columns; the chat has boxes for {MOST_COLUMNS}. Use the terminal: --column."
        )
    return columns


def _messages(run: Run, shown: list[dict[str, Any]], system: str, remember: bool, boxes: list[str]) -> list[Message]:
    """The conversation as the model was trained to read it: each message through the run's template."""
    values = dict(zip(_given_columns(run), boxes, strict=False))
    *earlier, last = [{"role": message["role"], "content": _text(message["content"])} for message in shown]
    history: list[Message] = []
    for message in earlier if remember else []:
        history.append(
            run.config.template.turn(message["content"], values)[-1] if message["role"] == "user" else message
        )
    messages = run.config.template.turn(last["content"], values, history)
    if messages[0]["role"] == "system" or system.strip():
        spoken = [message for message in messages if message["role"] != "system"]
        own = system.strip() or next(
            (
                message["content"]
                for message in messages
                if message["role"] == "system" and "{{" in run.config.template.system
            ),
            "",
        )
        messages = [{"role": "system", "content": own}, *spoken] if own else spoken
    return messages


def _text(content: Any) -> str:
    """Gradio hands messages over as a list of blocks."""
    if isinstance(content, str):
        return content
    return "".join(block.get("text", "") for block in content if isinstance(block, dict))
