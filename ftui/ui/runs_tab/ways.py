"""The ways from a run to other tabs: to a chat with it, and to a new run with its settings."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ftui.errors import UserError
from ftui.ui.chat_tab import AT_STEP, ChatDoor
from ftui.ui.draft import Draft
from ftui.ui.events import QUIET, UNSEEN, telling
from ftui.ui.page import Page
from ftui.ui.runs_tab.browsing import Browsing
from ftui.ui.runs_tab.shelf import Asked


def lead_to_chat(browsing: Browsing, door: ChatDoor, page: Page) -> None:
    leaving = {"inputs": browsing.asked, "outputs": [page.tabs, *door.outputs], **QUIET}

    def chatting(request: gr.Request, which: str, asked: tuple[Any, ...]) -> list[Any]:
        run = browsing.shelf.chosen(Asked(*asked))
        return [gr.Tabs(selected="chat"), *door.open(request, run.run_id if run else "", which)]

    @browsing.detail.actions.chat.click(**leaving)
    def chat_with_run(request: gr.Request, *asked: Any) -> list[Any]:
        return chatting(request, "", asked)

    @browsing.detail.checkpoints.chat(**leaving)
    def chat_with_checkpoint(request: gr.Request, event: gr.EventData, *asked: Any) -> list[Any]:
        return chatting(request, f"{AT_STEP}{int(event.step)}", asked)


def lead_to_draft(browsing: Browsing, draft: Draft, page: Page) -> None:
    leaving = {"inputs": browsing.asked, "outputs": [page.tabs, *draft.inputs], **UNSEEN}

    def filled(adapter: str | None, asked: tuple[Any, ...]) -> list[Any]:
        """The settings of the chosen run; `adapter` comes after its name: "", "@12", or None for a new one."""
        with telling():
            run = browsing.shelf.chosen(Asked(*asked))
            if run is None:
                raise UserError("There is no run to take the settings from.")
            start = run.config.adapter if adapter is None else f"{run.run_id}{adapter}"
            return [gr.Tabs(selected="train"), *draft.fill(run.config.model_copy(update={"adapter": start}))]

    @browsing.detail.actions.clone.click(**leaving)
    def clone_run(*asked: Any) -> list[Any]:
        return filled(None, asked)

    @browsing.detail.actions.begin.click(**leaving)
    def begin_from_adapter(*asked: Any) -> list[Any]:
        return filled("", asked)

    @browsing.detail.checkpoints.begin(**leaving)
    def begin_from_checkpoint(event: gr.EventData, *asked: Any) -> list[Any]:
        return filled(f"@{int(event.step)}", asked)
