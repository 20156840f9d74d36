"""5 Chat: the merged model of a run, its adapter, one of its checkpoints or its base, asked exactly as it was trained."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from ftui.chat import ChatModel, ChatSettings, Which
from ftui.config import checked
from ftui.encoding import Message
from ftui.errors import UserError
from ftui.failures import explain_failure
from ftui.runs import ENDED, Run, RunStore
from ftui.train import checkpoint_at, complete_checkpoints, step_of
from ftui.ui.events import tell
from ftui.ui.fieldset import fieldset
from ftui.ui.language import Voice, say
from ftui.ui.live import run_title

MOST_COLUMNS = 4
AT_STEP = "step "  # a checkpoint among the models to choose from


class ChatDoor(NamedTuple):
    """How another tab leads here: `open` gives the values of `outputs` for a run and one of its models."""

    open: Callable[[gr.Request, str, str], list[Any]]
    outputs: list[gr.components.Component]


def chat_tab(store: RunStore, chat: ChatModel, to_chat: gr.Button, tabs: gr.Tabs, tab: gr.Tab) -> ChatDoor:
    stops: dict[str, threading.Event] = {}
    with gr.Row():
        with gr.Column(scale=1):
            run = gr.Dropdown([], label=say("Run"), elem_id="chat_run")
            which = gr.Radio(
                [(say(label), key) for key, label in MODELS.items()],
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
                send = gr.Button(say("Send"), variant="primary", interactive=False, elem_id="send")
                halt = gr.Button(say("Stop"), variant="stop", interactive=False, elem_id="halt")
                retry = gr.Button(say("Retry"), interactive=False, elem_id="retry")
                clear = gr.Button(say("Clear"), interactive=False, elem_id="clear")
            with gr.Accordion(say("The exact prompt"), open=False, elem_id="exact_fold"):
                exact = gr.Code(
                    language=None, label=say("The exact prompt"), interactive=False, elem_id="exact", wrap_lines=True
                )

    asked = [run, which, system, remember, *columns, *settings.values()]
    needing = [message, send, halt, retry, clear]  # useless without a run
    about = [run, which, system, remember, *columns, *needing]
    chatting = {
        "concurrency_id": "accelerator",
        "concurrency_limit": 1,
        "api_visibility": "private",
        "show_progress": "hidden",
    }

    def answer(request: gr.Request, shown: list[dict[str, Any]], chosen: tuple[Any, ...]) -> Iterator[Any]:
        """The conversation with its reply growing, and the exact prompt."""
        session = str(request.session_hash)
        run_id, which, system, remember, *rest = chosen
        stop = stops[session] = threading.Event()
        try:
            picked = _open(store, run_id)
            wishes = checked(ChatSettings, dict(zip(settings, rest[MOST_COLUMNS:], strict=True)))
            messages = _messages(picked, shown, system, remember, rest[:MOST_COLUMNS])
            model, checkpoint = _model(picked, which)
            yield [*shown, {"role": "assistant", "content": "…"}], gr.skip()
            for words, prompt in chat.stream(picked, model, messages, wishes, stop, checkpoint):
                yield [*shown, {"role": "assistant", "content": words}], prompt
            if not words.strip():
                gr.Info(Voice(request)("The model ended its reply without a word."))
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
        for conversation, prompt in answer(request, shown, chosen):
            yield "", conversation, prompt

    @retry.click(inputs=[conversation, *asked], outputs=[conversation, exact], **chatting)
    def retry_reply(request: gr.Request, shown: list[dict[str, Any]], *chosen: Any) -> Iterator[Any]:
        while shown and shown[-1]["role"] == "assistant":
            shown = shown[:-1]
        if shown:
            yield from answer(request, shown, chosen)

    @halt.click(queue=False, api_visibility="private")
    def stop_reply(request: gr.Request) -> None:
        stop = stops.get(str(request.session_hash))
        if stop:
            stop.set()

    @clear.click(outputs=[conversation, exact], queue=False, api_visibility="private")
    def clear_conversation() -> tuple[list[Any], str]:
        return [], ""

    def show_runs(request: gr.Request, run_id: str | None, which: str | None) -> list[Any]:
        ready = {run.run_id: run for run in store.list() if run.state in ENDED and can_chat(run)}
        chosen = ready.get(str(run_id), next(iter(ready.values()), None))
        choices = [(run_title(run, Voice(request)), name) for name, run in ready.items()]
        shown = gr.Dropdown(choices=choices, value=chosen.run_id if chosen else None)
        return [shown, *_about(chosen, which if chosen and chosen.run_id == run_id else None, Voice(request))]

    def show_chosen(request: gr.Request, run_id: str | None) -> list[Any]:
        return show_runs(request, run_id, None)

    wanted = gr.State(None)  # by the door; the tab is drawn when it opens, and would ask with what it showed before

    def show_wanted(
        request: gr.Request, wanted: tuple[str, str | None] | None, run_id: str | None, which: str | None
    ) -> list[Any]:
        return [None, *show_runs(request, *(wanted or (run_id, which)))]

    def open_at(request: gr.Request, run_id: str | None, which: str | None) -> list[Any]:
        return [(run_id, which), *show_runs(request, run_id, which)]

    def show_newest(request: gr.Request) -> list[Any]:
        return [gr.Tabs(selected="chat"), *open_at(request, None, None)]

    to_chat.click(show_newest, outputs=[tabs, wanted, *about], queue=False, api_visibility="private")
    run.input(show_chosen, run, about, queue=False, api_visibility="private")
    tab.select(show_wanted, [wanted, run, which], [wanted, *about], queue=False, api_visibility="private")
    return ChatDoor(open_at, [wanted, *about])


MODELS = {"merged": "merged", "adapter": "adapter on its base", "base": "untouched base"}


def can_chat(run: Run) -> bool:
    """Whether anything that was learned is there; the untouched base alone is not offered."""
    return run.adapter_dir.is_dir() or bool(complete_checkpoints(run.path / "checkpoints"))


def _models(run: Run, voice: Voice) -> dict[str, str]:
    """The models of a run that are there, the best first, with their labels."""
    there = {"merged": run.merged_dir.is_dir(), "adapter": run.adapter_dir.is_dir()}
    found = {key: voice(label) for key, label in MODELS.items() if there.get(key)}
    steps = map(step_of, complete_checkpoints(run.path / "checkpoints"))
    found |= {f"{AT_STEP}{step}": voice("checkpoint of step {step}", step=step) for step in steps}
    return found | {"base": voice(MODELS["base"])}


def _model(run: Run, which: str) -> tuple[Which, Path | None]:
    """What the chosen model is to the core. UserError for a checkpoint that has gone meanwhile."""
    if which.startswith(AT_STEP):
        return "adapter", checkpoint_at(run, int(which.removeprefix(AT_STEP)))
    return which, None  # type: ignore[return-value]


def _open(store: RunStore, run_id: str | None) -> Run:
    if not run_id:
        raise UserError("There is no model to chat with yet. Train one first.")
    return store.open(run_id)


def _about(run: Run | None, which: str | None, voice: Voice) -> list[Any]:
    """Which model, system prompt, memory, column boxes and buttons of a run."""
    hidden = [gr.Textbox(visible=False, value="") for _ in range(MOST_COLUMNS)]
    if run is None:
        first = voice("There is no model to chat with yet. Train one first.")
        off = [gr.Textbox(interactive=False, placeholder=first), *(gr.Button(interactive=False) for _ in range(4))]
        return [gr.Radio(interactive=False), "", False, *hidden, *off]
    template, models = run.config.template, _models(run, voice)
    given = _given_columns(run)
    boxes = [gr.Textbox(visible=True, label=name, value="") for name in given]
    write = voice("Write a message and press Enter")
    on = [gr.Textbox(interactive=True, placeholder=write), *(gr.Button(interactive=True) for _ in range(4))]
    return [
        gr.Radio(
            choices=[(label, key) for key, label in models.items()],
            value=which if which in models else next(iter(models)),
            interactive=True,
        ),
        "" if "{{" in template.system else template.system,
        bool(template.messages),
        *boxes,
        *hidden[len(boxes) :],
        *on,
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
