"""The page: the tabs in the order the user meets them."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ftui.background import BackgroundTrainer
from ftui.chat import ChatModel
from ftui.config import RunConfig
from ftui.runs import RunStore
from ftui.ui.blocks import Blocks
from ftui.ui.chat_tab import chat_tab
from ftui.ui.data_tab import data_tab
from ftui.ui.draft import Draft
from ftui.ui.events import AT_ONCE, LATEST
from ftui.ui.fieldset import Form
from ftui.ui.language import Voice, catalog, say
from ftui.ui.model_tab import model_tab
from ftui.ui.page import Page
from ftui.ui.preview import Preview
from ftui.ui.pulse import Pulse
from ftui.ui.runs_tab import runs_tab
from ftui.ui.train_tab import how_long, is_eventful, settings, train_tab

THEME = gr.themes.Default(
    primary_hue="indigo",
    secondary_hue="orange",
    neutral_hue="slate",
    font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
    font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "monospace"],
)
THEME.set(body_text_color_subdued="*neutral_500", block_info_text_color="*neutral_500")  # Gradio's are too pale to read
CSS = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")

__all__ = ["CSS", "THEME", "Pulse", "build_studio", "catalog"]


def build_studio(
    store: RunStore, trainer: BackgroundTrainer, chat: ChatModel, pulse: Pulse, restart: Callable[[], None]
) -> gr.Blocks:
    """The whole page. What all sessions share comes in as arguments; the form itself is each session's state."""
    first, preview = RunConfig.load("starter"), Preview()
    with Blocks(title="ftui", analytics_enabled=False, fill_width=True, delete_cache=(3600, 86400)) as studio:
        kept = gr.BrowserState(None, storage_key="ftui-form", secret="ftui")  # in a hidden tab it would come too late
        length, drawn_later = how_long(), settings(first)  # the Data tab reads and sets them, the Train tab draws them
        _masthead()
        _trouble(trainer, pulse, restart)
        with gr.Tabs(selected="model", elem_id="tabs", overflow_behavior="wrap") as tabs:
            page = Page(studio, tabs, kept, pulse)
            with gr.Tab(say("Model"), id="model"):
                model = model_tab(first, studio)
            with gr.Tab(say("Data"), id="data") as data_page:
                data = data_tab(first, store, preview, Draft(length, Form({**model, **drawn_later})), data_page)
            draft = Draft(length, Form({**model, **data, **drawn_later}))
            with gr.Tab(say("Train"), id="train") as train_page:
                to_chat = train_tab(trainer, preview, draft, page, train_page)
            with gr.Tab(say("Chat"), id="chat") as chat_page:
                door = chat_tab(store, chat, to_chat, page, chat_page)
            with gr.Tab(say("Runs"), id="runs") as runs_page:
                listing = runs_tab(trainer, draft, door, page, runs_page)

        def list_runs(shown: gr.EventData) -> gr.Timer:
            """A list that nobody sees costs nothing. One handler for all tabs: two could overtake each other."""
            return gr.Timer(active=shown.id == "runs")

        def show_what_goes_on() -> Any:
            return gr.Tabs(selected="train") if is_eventful(trainer) else gr.skip()

        tabs.select(list_runs, outputs=listing, **AT_ONCE, **LATEST)
        pulse.attach(studio)
        studio.load(show_what_goes_on, outputs=tabs, **AT_ONCE)
    studio.queue(max_size=32)
    # An empty queue looks a thousand times a second whether something came, which takes 5 % of a core from the run; on
    # Windows Gradio itself looks this often.
    studio._queue.sleep_when_free, studio._queue.progress_update_sleep_when_free = 0.05, 0.1
    studio.state_session_capacity = 200
    return studio


def _masthead() -> None:
    promise = say("Fine-tune a small language model, see it learn, and prove what it learned.")
    away = say(
        "ftui does not answer: what you see may be old. This page asks again each second; nothing you wrote is lost."
    )
    with gr.Column(elem_id="masthead"):
        gr.HTML("<h1>ftui</h1>", padding=False)
        gr.Markdown(promise, elem_classes="quiet")
        gr.Markdown(away, elem_id="away")


def _trouble(trainer: BackgroundTrainer, pulse: Pulse, restart: Callable[[], None]) -> None:
    """A banner over all tabs while the accelerator takes no more work."""
    banner = gr.HTML(elem_id="trouble", padding=False)
    again = gr.Button(say("Restart ftui"), variant="stop", visible=False, elem_id="restart")

    def draw(voice: Voice) -> list[Any]:
        sentence = voice.known(trainer.trouble) if trainer.trouble else ""
        shown = f"<p class='card bad' role='alert'>{escape(sentence)}</p>" if sentence else ""
        return [shown, gr.Button(visible=bool(sentence))]

    pulse.watch([banner, again], lambda: trainer.trouble, draw)

    @again.click(**AT_ONCE)
    def restart_app() -> None:
        if trainer.trouble:
            restart()
