"""The replies: a message of the page becomes a question to a model, and what the model says comes back as it grows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import gradio as gr

from ftui.chat import ChatModel, ChatSettings
from ftui.encoding import Message
from ftui.errors import UserError
from ftui.failures import explain_failure
from ftui.runs import Run, RunStore
from ftui.settings import checked
from ftui.ui.chat_tab.chooser import MOST_COLUMNS, given_columns, label_of, speaker_of
from ftui.ui.events import tell
from ftui.ui.language import Voice

NOTE = "note"  # which no model is told


class Replies:
    """What the models say, growing; each session can stop its own."""

    def __init__(self, store: RunStore, chat: ChatModel, settings: list[str]) -> None:
        """`settings`: the names of the inputs that come last."""
        self._store, self._chat, self._settings = store, chat, settings
        self._stops: dict[str, threading.Event] = {}

    def answer(self, request: gr.Request, shown: list[dict[str, Any]], chosen: tuple[Any, ...]) -> Iterator[Any]:
        """The conversation with its reply growing, and the exact prompt. Nothing comes before it is this one's turn."""
        session = str(request.session_hash)
        run_id, which, system, remember, *rest = chosen
        stop = self._stops[session] = threading.Event()
        begun, voice = False, Voice(request)
        try:
            run = self._open(run_id)
            wishes = checked(ChatSettings, dict(zip(self._settings, rest[MOST_COLUMNS:], strict=True)))
            messages = _messages(run, shown, system, remember, rest[:MOST_COLUMNS])
            speaker = speaker_of(run, which)
            talk = [*shown, _note(f"{label_of(which, voice)} · {run.run_id}")]
            for said, prompt in self._chat.stream(speaker, messages, wishes, stop):
                cut = [_note(voice("cut at {count} tokens", count=wishes.max_new_tokens))] if said.is_cut else []
                yield [*talk, {"role": "assistant", "content": said.words if begun else "…"}, *cut], prompt
                begun = True
            if not said.words.strip():
                gr.Info(voice("The model ended its reply without a word."))
        except (UserError, RuntimeError, MemoryError) as error:  # the last two: no memory for the model or its reply
            if begun:
                yield shown, ""
            raise tell(UserError(explain_failure(error))) from None
        finally:
            self._stops.pop(session, None)

    def is_under_way(self, request: gr.Request) -> bool:
        """Whether a reply to this session is being written."""
        return str(request.session_hash) in self._stops

    def stop(self, request: gr.Request) -> None:
        if stop := self._stops.get(str(request.session_hash)):
            stop.set()

    def _open(self, run_id: str | None) -> Run:
        if not run_id:
            raise UserError("There is no model to chat with yet. Train one first.")
        return self._store.open(run_id)


def _messages(run: Run, shown: list[dict[str, Any]], system: str, remember: bool, boxes: list[str]) -> list[Message]:
    """The conversation as the model was trained to read it: each message through the run's template."""
    template, values = run.config.template, dict(zip(given_columns(run), boxes, strict=False))
    *earlier, last = [
        {"role": message["role"], "content": _text(message["content"])} for message in shown if not _is_note(message)
    ]
    history: list[Message] = []
    for message in earlier if remember else []:
        history.append(template.turn(message["content"], values)[-1] if message["role"] == "user" else message)
    messages = template.turn(last["content"], values, history)
    spoken = [message for message in messages if message["role"] != "system"]
    rendered = [message["content"] for message in messages if message["role"] == "system"]
    own = system.strip() or next(iter(rendered if "{{" in template.system else []), "")
    return [{"role": "system", "content": own}, *spoken] if own else spoken


def _note(text: str) -> dict[str, Any]:
    """What the page says of a reply, beside it."""
    return {"role": "assistant", "content": f"*{text}*", "metadata": {"id": NOTE}}


def _is_note(message: dict[str, Any]) -> bool:
    return (message.get("metadata") or {}).get("id") == NOTE


def _text(content: Any) -> str:
    """Gradio hands messages over as a list of blocks."""
    if isinstance(content, str):
        return content
    return "".join(block.get("text", "") for block in content if isinstance(block, dict))
