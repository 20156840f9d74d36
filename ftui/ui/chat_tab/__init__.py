"""5 Chat: the merged model of a run, its adapter, one of its checkpoints or its base, asked exactly as it was trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gradio as gr

from ftui.chat import ChatModel
from ftui.runs import RunStore
from ftui.ui.chat_tab.chooser import AT_STEP, Chooser, can_chat, ready_runs
from ftui.ui.chat_tab.replies import Replies
from ftui.ui.chat_tab.talk import Talk
from ftui.ui.events import AT_ONCE
from ftui.ui.language import Voice
from ftui.ui.page import Page

__all__ = ["AT_STEP", "ChatDoor", "can_chat", "chat_tab"]


class ChatDoor(NamedTuple):
    """How another tab leads here: `open` gives the values of `outputs` for a run and one of its models."""

    open: Callable[[gr.Request, str | None, str | None], list[Any]]
    outputs: list[gr.components.Component]


def chat_tab(store: RunStore, chat: ChatModel, to_chat: gr.Button, page: Page, tab: gr.Tab) -> ChatDoor:
    with gr.Row():
        with gr.Column(scale=1):
            chooser = Chooser()
        with gr.Column(scale=2):
            talk = Talk()
    replies = Replies(store, chat, list(chooser.settings))
    talk.wire(replies, chooser)

    about = [*chooser.outputs, *talk.outputs]
    wanted = gr.State(None)  # by the door; the tab is drawn when it opens, and would ask with what it showed before

    def show_runs(request: gr.Request, run_id: str | None, which: str | None) -> list[Any]:
        ready, voice = ready_runs(store), Voice(request)
        run = ready.get(str(run_id), next(iter(ready.values()), None))
        kept = which if run and run.run_id == run_id else None
        return [*chooser.show(ready, run, kept, voice), *talk.show(run, voice, replies.is_under_way(request))]

    def show_chosen(request: gr.Request, run_id: str | None) -> list[Any]:
        return show_runs(request, run_id, None)

    def show_wanted(request: gr.Request, wanted: tuple[str | None, ...] | None, *shown: str | None) -> list[Any]:
        return [None, *show_runs(request, *(wanted or shown))]

    def open_at(request: gr.Request, run_id: str | None, which: str | None) -> list[Any]:
        return [(run_id, which), *show_runs(request, run_id, which)]

    def show_newest(request: gr.Request) -> list[Any]:
        return [gr.Tabs(selected="chat"), *open_at(request, None, None)]

    to_chat.click(show_newest, outputs=[page.tabs, wanted, *about], **AT_ONCE)
    chooser.run.input(show_chosen, chooser.run, about, **AT_ONCE)
    tab.select(show_wanted, [wanted, chooser.run, chooser.which], [wanted, *about], **AT_ONCE)
    return ChatDoor(open_at, [wanted, *about])
