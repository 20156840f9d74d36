"""3 Train: what to start with, what it will take, start, watch, stop."""

from __future__ import annotations

import gradio as gr

from ftui.background import BackgroundTrainer
from ftui.ui.draft import Draft
from ftui.ui.fieldset import remember
from ftui.ui.page import Page
from ftui.ui.preview import Preview
from ftui.ui.train_tab.controls import Controls
from ftui.ui.train_tab.estimate import Estimate
from ftui.ui.train_tab.now import is_eventful
from ftui.ui.train_tab.parts import Parts
from ftui.ui.train_tab.questions import Questions, how_long
from ftui.ui.train_tab.settings import Yaml, draw_settings, settings
from ftui.ui.train_tab.shown import Shown
from ftui.ui.train_tab.waiting import Waiting

__all__ = ["how_long", "is_eventful", "settings", "train_tab"]


def train_tab(trainer: BackgroundTrainer, preview: Preview, draft: Draft, page: Page, tab: gr.Tab) -> gr.Button:
    """Returns the button that leads to the chat.

    `draft`: all inputs that make a run, those of the tabs before this one and those that are drawn here.
    """
    form = draft.form
    with gr.Row():
        with gr.Column(scale=2, min_width=340):
            questions = Questions(draft.length)
            controls = Controls(trainer, preview)  # above all that comes and goes: a button that moves is missed
            waiting = Waiting(trainer)  # the answer to "Add to the queue", so on the same screen
            estimate = Estimate(trainer, preview)
            draw_settings(form.by_path)
            yaml = Yaml()
        with gr.Column(scale=3):
            shown = Shown()

    parts = Parts(trainer, shown, controls, waiting)
    parts.follow(page)
    controls.begin(draft, parts)
    controls.end(parts)
    waiting.wire(parts)
    estimate.measure(draft)
    yaml.show_draft(draft)
    kept = {"preset": questions.preset, "length": draft.length, **form.by_path}
    restored = remember(kept, page.kept, page.studio)
    fills = [questions.fill_from_preset(form), yaml.fill(draft), questions.fill_from_strength(form), restored]
    questions.follow(form, fills, tab)
    estimate.follow(draft, fills, tab)
    return shown.to_chat
