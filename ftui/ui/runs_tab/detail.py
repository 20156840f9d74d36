"""The detail: everything about one run, and the buttons for what can be done with it."""

from __future__ import annotations

from html import escape
from typing import Any, Literal

import gradio as gr

from ftui.background import BackgroundTrainer
from ftui.loop import report_name
from ftui.runs import ENDED, WORKING, Run
from ftui.train import checkpoints_of
from ftui.ui.chat_tab import can_chat
from ftui.ui.language import Voice, say
from ftui.ui.question import Question
from ftui.ui.report import proof_html, report_html
from ftui.ui.run_html import log_html, losses_html, run_title, status_html, watched_html
from ftui.ui.runs_table import ACTING, checkpoints_html


class Actions:
    def __init__(self) -> None:
        with gr.Row(elem_id="run_actions"):
            self.chat = _action("chat", "Chat", "primary")
            self.resume = _action("resume", "Resume", "primary")
            self.stop = _action("stop", "Stop and keep", "stop")
            self.discard = _action("discard", "Discard")
            self.clone = _action("clone", "Clone settings")
            self.begin = _action("begin", "New run from its adapter")
            self.evaluate = _action("evaluate", "Evaluate again")
            self.merge = _action("merge", "Merge")
            self.delete = _action("delete", "Delete")
            self.restore = _action("restore", "Restore", "primary")
            self.empty = _action("empty", "Empty trash", "stop")
        going = [self.chat, self.resume, self.stop, self.discard]
        for_kept = [*going, self.clone, self.begin, self.evaluate, self.merge, self.delete]
        self.outputs = [*for_kept, self.restore, self.empty]

    def show(self, run: Run, in_trash: bool) -> list[gr.Button]:
        """Those that make sense for the run now."""
        state, has_adapter = run.state, run.adapter_dir.is_dir()
        ended = state in ENDED and not run.is_held
        can = {
            "chat": ended and can_chat(run),
            "resume": ended and state != "done",
            "stop": (state in WORKING or run.is_held) and not run.stop_wanted,
            "discard": state in WORKING or state == "queued",
            "clone": run.has_config,
            "begin": ended and has_adapter,
            "evaluate": ended and has_adapter,
            "merge": ended and has_adapter and not run.merged_dir.is_dir(),
            "delete": ended,
        }
        for_kept = [gr.Button(visible=possible and not in_trash) for possible in can.values()]
        return [*for_kept, gr.Button(visible=in_trash), gr.Button(visible=in_trash)]


def _action(name: str, label: str, variant: Literal["primary", "secondary", "stop"] = "secondary") -> gr.Button:
    return gr.Button(say(label), variant=variant, size="sm", min_width=110, elem_id=f"run_{name}")


class Detail:
    def __init__(self, trainer: BackgroundTrainer) -> None:
        with gr.Column(visible=False, elem_id="selected") as self.column:
            self.status = gr.HTML(padding=False, elem_id="run_status")
            self.actions = Actions()
            self.question = Question(trainer)
            with gr.Tabs(elem_id="run_parts", overflow_behavior="wrap"):
                with gr.Tab(say("Curves")):
                    self.plot = gr.HTML(padding=False, elem_id="run_plot")
                    self.watched = gr.HTML(padding=False)
                with gr.Tab(say("Report")):
                    self.report = gr.HTML(padding=False, elem_id="run_report")
                with gr.Tab(say("Checkpoints")):
                    self.checkpoints = gr.HTML(
                        js_on_load=ACTING, apply_default_css=False, padding=False, elem_id="checkpoints"
                    )
                with gr.Tab(say("Settings")):
                    self.settings = gr.Code(language="yaml", interactive=False, elem_id="run_config")
                with gr.Tab(say("Log")):
                    self.log = gr.HTML(padding=False, elem_id="run_log")
        parts = [self.status, self.plot, self.watched, self.report, self.checkpoints, self.settings, self.log]
        self.outputs = [self.column, *parts, *self.actions.outputs]

    def show(self, run: Run | None, in_trash: bool, voice: Voice) -> list[Any]:
        if run is None:
            hidden = [gr.Button(visible=False) for _ in self.actions.outputs]
            return [gr.Column(visible=False), *[""] * 7, *hidden]
        state, events = run.state, run.events()
        busy = voice("It is being compared or merged; the log says how far it is.")
        note = f"<p class='warn' role='status'>{escape(busy)}</p>" if state in ENDED and run.is_held else ""
        no_report = voice("No report yet. It is made when a run is done.")
        no_curve = voice("No curves yet. They begin with the first step of training.")
        return [
            gr.Column(visible=True),
            f"<h2>{escape(run_title(run, voice))}</h2>{note}{status_html(run, state, events, voice)}",
            losses_html(run, voice) or f"<p class='quiet'>{escape(no_curve)}</p>",
            watched_html(events, voice),
            _reports(run, voice) or f"<p class='quiet'>{escape(no_report)}</p>",
            checkpoints_html(run, checkpoints_of(run), not in_trash, voice),
            run.config.to_yaml() if run.has_config else "",
            log_html(events, voice),
            *self.actions.show(run, in_trash),
        ]


def _reports(run: Run, voice: Voice) -> str:
    """The report of the run, then those of its checkpoints."""
    found = proof_html(run, voice)
    for step in sorted(int(path.stem.rpartition("-")[2]) for path in run.path.glob("report-step-*.json")):
        if compared := run.read_json(f"{report_name(step)}.json"):
            title = voice("Base beside the checkpoint of step {step}", step=step)
            found += report_html(compared, title, voice)
    return found
