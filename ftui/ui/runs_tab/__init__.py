"""7 Runs: every run there is: found, looked at, compared, gone on with, begun again, thrown away and brought back."""

from __future__ import annotations

import gradio as gr

from ftui.background import BackgroundTrainer
from ftui.ui.chat_tab import ChatDoor
from ftui.ui.draft import Draft
from ftui.ui.page import Page
from ftui.ui.runs_tab.acts import act_at_once, act_when_answered
from ftui.ui.runs_tab.browsing import Browsing
from ftui.ui.runs_tab.detail import Detail
from ftui.ui.runs_tab.listing import Listing
from ftui.ui.runs_tab.shelf import Shelf
from ftui.ui.runs_tab.ways import lead_to_chat, lead_to_draft

__all__ = ["runs_tab"]


def runs_tab(trainer: BackgroundTrainer, draft: Draft, chat: ChatDoor, page: Page, tab: gr.Tab) -> gr.Timer:
    """Returns the timer of the list, which runs while this tab is shown."""
    browsing = Browsing(Shelf(trainer.store), Listing(), Detail(trainer))
    browsing.follow(page, tab)
    act_at_once(browsing, trainer)
    act_when_answered(browsing)
    lead_to_chat(browsing, chat, page)
    lead_to_draft(browsing, draft, page)
    return browsing.timer
