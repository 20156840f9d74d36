"""The listing: search and groups, the table of runs, and the runs that are ticked beside each other."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ftui.history import RunLine
from ftui.runs import Run, RunStore
from ftui.ui.language import Voice, say
from ftui.ui.runs_tab.shelf import Asked
from ftui.ui.runs_table import CHOOSING, GROUPS, compared_html, differences_html, runs_html


class Listing:
    def __init__(self) -> None:
        with gr.Row(equal_height=True):
            self.search = gr.Textbox(
                label=say("Search"), placeholder=say("Data, base model, state or id"), max_lines=1, elem_id="find_run"
            )
            self.group = gr.Dropdown(
                [(say(label), key) for key, (label, _) in GROUPS.items()],
                value="all",
                label=say("Show runs"),
                elem_id="group",
            )
        self.table = gr.HTML(elem_id="runs", js_on_load=CHOOSING, apply_default_css=False, padding=False)
        self.hint = gr.Markdown(say("Tick two or three runs to compare them."), elem_classes="quiet")
        with gr.Column(visible=False, elem_id="compared") as self.compared:
            self.curves = gr.HTML(padding=False, elem_id="compared_plot")
            self.differences = gr.HTML(padding=False)
        self.outputs = [self.table, self.hint, self.compared, self.curves, self.differences]

    def show(self, lines: list[RunLine], run: Run | None, asked: Asked, store: RunStore, voice: Voice) -> list[Any]:
        """The table, its hint, and the comparison of the runs that are ticked and still there."""
        there = {line.run: line for line in lines}
        picked = [name for name in asked.ticked if name in there and not asked.in_trash]
        nothing, ticks = voice(_nothing(asked)), None if asked.in_trash else picked
        table = runs_html(lines, run.run_id if run else None, ticks, nothing, voice)
        hint = gr.Markdown(visible=len(lines) > 1 and len(picked) < 2 and not asked.in_trash)
        if len(picked) < 2:
            return [table, hint, gr.Column(visible=False), "", ""]
        runs = [store.open(name) for name in picked]
        differences = differences_html([there[name] for name in picked], runs, voice)
        return [table, hint, gr.Column(visible=True), compared_html(runs, voice), differences]


def _nothing(asked: Asked) -> str:
    """What an empty table says."""
    if asked.search or asked.group not in ("all", "trash"):
        return "No run like that."
    return "The trash is empty." if asked.in_trash else "No run yet. Start one in the Train tab."
