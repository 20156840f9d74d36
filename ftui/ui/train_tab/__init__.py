"""3 Train: what to start with, what it will take, start, watch, stop."""

from __future__ import annotations

import gradio as gr

from ftui.background import BackgroundTrainer
from ftui.ui.draft import Draft
from ftui.ui.fieldset import Fields, Form, remember
from ftui.ui.page import Page
from ftui.ui.preview import Preview
from ftui.ui.train_tab.controls import Controls
from ftui.ui.train_tab.estimate import Estimate
from ftui.ui.train_tab.live import Live, is_eventful
from ftui.ui.train_tab.questions import Questions
from ftui.ui.train_tab.settings import Yaml, draw_settings, settings
from ftui.ui.train_tab.view import View
from ftui.ui.train_tab.waiting import Waiting

__all__ = ["is_eventful", "settings", "train_tab"]


def train_tab(
    trainer: BackgroundTrainer, preview: Preview, fields: Fields, page: Page, tab: gr.Tab
) -> tuple[gr.Button, Draft]:
    """Returns the button that leads to the chat, and the draft of the run that Start would begin.

    `fields`: all inputs that make a run, those of the tabs before this one and the settings that are drawn here.
    """
    with gr.Row():
        with gr.Column(scale=2, min_width=340):
            questions = Questions()
            estimate = Estimate(trainer, preview)
            controls = Controls(trainer, preview)
            waiting = Waiting(trainer)
            draw_settings(fields)
            yaml = Yaml()
        with gr.Column(scale=3):
            view = View()

    form = Form(fields)
    draft = Draft(questions.length, form)
    live = Live(trainer, view, controls, waiting)
    live.follow(page)
    controls.begin(draft, live)
    controls.end(live)
    waiting.wire(live)
    estimate.measure(draft)
    yaml.show_draft(draft)
    restored = remember({"preset": questions.preset, "length": questions.length, **fields}, page.kept, page.studio)
    fills = [questions.fill_from_preset(form), yaml.fill(draft), questions.fill_from_strength(form), restored]
    questions.follow(form, fills, tab)
    estimate.follow(draft, fills, tab)
    return view.to_chat, draft
