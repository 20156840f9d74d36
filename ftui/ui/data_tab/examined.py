"""The rows examined: what the doctor found and how to mend it, and a few rows exactly as the trainer gets them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import gradio as gr

from ftui.check import Look, numbers
from ftui.doctor import apply_fix
from ftui.errors import UserError
from ftui.runs import RunStore
from ftui.ui.events import BRIEFLY, telling
from ftui.ui.fieldset import Form
from ftui.ui.language import Voice, say
from ftui.ui.preview import Preview
from ftui.ui.supervision import ORDERS, SHOWN_ROWS, chosen_rows, error_html, facts_html, problems_html, rows_html


class Findings:
    """`before`: the paths of the rows as they were before each fix, for Undo."""

    def __init__(self) -> None:
        self.look = gr.Button(say("Check and show"), variant="primary", elem_id="show_examples")
        self.facts = gr.HTML(elem_id="facts", padding=False)
        self.problems = gr.HTML(elem_id="problems", padding=False)
        with gr.Row(visible=False) as self.mending:
            self.fix = gr.Dropdown([], label=say("Fix"), scale=3, elem_id="fix")
            self.mend = gr.Button(say("Mend"), scale=1, elem_id="mend")
            self.undo = gr.Button(say("Undo"), scale=1, elem_id="undo")
        self.before = gr.State([])
        self.outputs = [self.facts, self.problems, self.mending, self.fix]

    def show(self, found: Look, examined: dict[str, Any], before: list[str], voice: Voice) -> list[Any]:
        fixes = [(voice.known(problem.fix.title), problem.code) for problem in found.problems if problem.fix]
        return [
            facts_html(examined, voice),
            problems_html(examined, voice),
            gr.Row(visible=bool(fixes or before)),
            gr.Dropdown(choices=fixes, value=next((code for _, code in fixes), None)),
        ]

    def show_error(self, error: UserError, before: list[str], voice: Voice) -> list[Any]:
        """In the place of what was shown before, which is no longer true."""
        return [error_html(error, voice), "", gr.Row(visible=bool(before)), gr.Dropdown(choices=[], value=None)]

    def wire(self, form: Form, store: RunStore, preview: Preview) -> list[Callable[..., Any]]:
        """Writes mended rows beside the old ones, and goes back; returns the events after which there are other rows."""
        path = form.by_path["dataset.path"]

        def mend_rows(code: str | None, before: list[str], path: str, *values: Any) -> tuple[str, list[str]]:
            with telling():
                found = preview.look(form.read(values))
                problem = next((problem for problem in found.problems if problem.code == code and problem.fix), None)
                if problem is None:
                    raise UserError("There is nothing to mend. Check the rows first.")
                lines = (json.dumps(row, ensure_ascii=False, default=str) for row in apply_fix(found.rows, problem))
                return str(store.keep_text("\n".join(lines) + "\n", ".jsonl")), [*before, path]

        def undo_fix(before: list[str], path: str) -> tuple[str, list[str]]:
            return (before[-1], before[:-1]) if before else (path, [])

        taken = [self.fix, self.before, path, *form.inputs]
        mended = self.mend.click(mend_rows, taken, [path, self.before], **BRIEFLY)
        undone = self.undo.click(undo_fix, [self.before, path], [path, self.before], **BRIEFLY)
        return [mended.success, undone.success]


class Pages:
    """A few rows at a time, token by token."""

    def __init__(self) -> None:
        with gr.Row():
            self.order = gr.Dropdown(
                [(say(name), key) for key, name in ORDERS.items()], value="order", label=say("Order")
            )
            self.search = gr.Textbox(label=say("Search"), max_lines=1, elem_id="search")
            self.back = gr.Button(say("Previous rows"), elem_id="back")
            self.on = gr.Button(say("Next rows"), elem_id="next")
        self.seen = gr.HTML(elem_id="seen", padding=False)
        self.page = gr.State(0)
        self.outputs = [self.page, self.seen]

    def wire(self, form: Form, preview: Preview) -> None:
        def turn_page(voice: Voice, step: int, page: int, order: str, search: str, *values: Any) -> tuple[int, str]:
            with telling():
                config = form.read(values)
                found = preview.look(config)
            picked = chosen_rows(found, order, search)
            page = max(0, min(page + step, (len(picked) - 1) // SHOWN_ROWS))
            return page, rows_html(found, picked, page, config.training, voice)

        def next_rows(request: gr.Request, *asked: Any) -> tuple[int, str]:
            return turn_page(Voice(request), 1, *asked)

        def previous_rows(request: gr.Request, *asked: Any) -> tuple[int, str]:
            return turn_page(Voice(request), -1, *asked)

        asked = [self.page, self.order, self.search, *form.inputs]
        self.on.click(next_rows, asked, self.outputs, **BRIEFLY)
        self.back.click(previous_rows, asked, self.outputs, **BRIEFLY)


def examined(findings: Findings, pages: Pages, form: Form, preview: Preview) -> dict[str, Any]:
    """The event that reads all rows, asks the doctor, and shows the first page."""

    def check_rows(request: gr.Request, before: list[str], order: str, search: str, *values: Any) -> list[Any]:
        voice = Voice(request)
        try:
            config = form.read(values)
            found = preview.look(config)
            checked = numbers(config, found)
        except UserError as error:
            return [*findings.show_error(error, before, voice), 0, ""]
        first = rows_html(found, chosen_rows(found, order, search), 0, config.training, voice)
        return [*findings.show(found, checked, before, voice), 0, first]

    asked = [findings.before, pages.order, pages.search, *form.inputs]
    return {"fn": check_rows, "inputs": asked, "outputs": [*findings.outputs, *pages.outputs], **BRIEFLY}
