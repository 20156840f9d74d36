"""The rows examined: what the doctor found and how to mend it, and a few rows exactly as the trainer gets them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from ftui.check import Look, numbers
from ftui.doctor import Setting, apply_fix
from ftui.errors import UserError
from ftui.runs import RunStore, slug
from ftui.ui.data_tab.mapping import next_step
from ftui.ui.data_tab.source import unread
from ftui.ui.events import BRIEFLY, LATEST, UNSEEN, telling
from ftui.ui.fieldset import Form
from ftui.ui.language import Voice, say
from ftui.ui.preview import Preview
from ftui.ui.supervision import (
    ORDERS,
    SHOWN_ROWS,
    chosen_rows,
    error_html,
    facts_html,
    hint_html,
    no_rows_html,
    problems_html,
    rows_html,
)

MENDED = ("dataset.path", "split.test")  # the boxes that a fix writes into
Taken = list[tuple[list[str], list[str]]]


class Findings:
    """`taken`: the fixes so far, for Undo: what the boxes of MENDED said before each, and after."""

    def __init__(self) -> None:
        self.look = gr.Button(say("Check and show"), variant="primary", elem_id="show_examples")
        self.facts = gr.HTML(elem_id="facts", padding=False)
        self.problems = gr.HTML(elem_id="problems", padding=False)
        with gr.Row(visible=False) as self.mending:
            self.fix = gr.Dropdown([], label=say("Fix"), scale=3, elem_id="fix")
            self.mend = gr.Button(say("Mend"), scale=1, elem_id="mend")
            self.undo = gr.Button(say("Undo"), scale=1, interactive=False, elem_id="undo")
        self.taken = gr.State([])
        self.mapped = gr.State({})  # the template that was looked at last
        self.outputs = [self.facts, self.problems, self.mending, self.fix, self.undo]

    def show(self, found: Look, examined: dict[str, Any], mended: bool, voice: Voice) -> list[Any]:
        fixes = [(voice.known(problem.fix.title), problem.code) for problem in found.problems if problem.fix]
        return [
            facts_html(examined, voice),
            problems_html(examined, voice),
            gr.Row(visible=bool(fixes or mended)),
            gr.Dropdown(choices=fixes, value=next((code for _, code in fixes), None)),
            gr.Button(interactive=mended),
        ]

    def show_instead(self, html: str, mended: bool) -> list[Any]:
        """In the place of what was shown before, which is no longer true."""
        nothing = gr.Dropdown(choices=[], value=None)
        return [html, "", gr.Row(visible=mended), nothing, gr.Button(interactive=mended)]

    def wire(self, form: Form, store: RunStore, preview: Preview) -> list[Callable[..., Any]]:
        """Writes mended rows beside the old ones, or another split, and goes back; returns the events after which to look again."""

        def mend_rows(code: str | None, taken: Taken, *values: Any) -> list[Any]:
            with telling():
                config = form.read(values)
                found = preview.look(config)
                problem = next((problem for problem in found.problems if problem.code == code and problem.fix), None)
                if problem is None:
                    raise UserError("There is nothing to mend. Check the rows first.")
                if isinstance(problem.fix, Setting):
                    box, mended = problem.fix.path, str(problem.fix.value)
                else:
                    lines = (json.dumps(row, ensure_ascii=False, default=str) for row in apply_fix(found.rows, problem))
                    text = "\n".join(lines) + "\n"
                    box, mended = "dataset.path", str(store.keep_text(text, f"{slug(config)}.jsonl"))
                before = boxes_of(form, values)
                after = [mended if path == box else value for path, value in zip(MENDED, before, strict=True)]
                return [*after, [*taken, (before, after)]]

        def undo_fix(taken: Taken, *boxes: str) -> list[Any]:
            return [*taken[-1][0], taken[:-1]] if can_undo(taken, list(boxes)) else [*boxes, []]

        boxes = [form.by_path[path] for path in MENDED]
        outputs = [*boxes, self.taken]
        mended = self.mend.click(mend_rows, [self.fix, self.taken, *form.inputs], outputs, **BRIEFLY)
        undone = self.undo.click(undo_fix, [self.taken, *boxes], outputs, **BRIEFLY)
        return [mended.success, undone.success]


def boxes_of(form: Form, values: Sequence[Any]) -> list[Any]:
    """What the boxes of MENDED say."""
    return [values[form.paths.index(path)] for path in MENDED]


def can_undo(taken: Taken, boxes: list[Any]) -> bool:
    """Not once the page has gone on to other rows, or another split, than those of the last fix."""
    return bool(taken) and taken[-1][1] == boxes


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
            try:
                config = form.read(values)
                found = preview.look(config)
            except UserError as error:
                return 0, error_html(error, voice)
            picked = chosen_rows(found, order, search)
            if not picked:
                return 0, no_rows_html(order, search, voice)
            page = max(0, min(page + step, (len(picked) - 1) // SHOWN_ROWS))
            return page, rows_html(found, picked, page, config.training, voice)

        def find_rows(request: gr.Request, *asked: Any) -> tuple[int, str]:
            return turn_page(Voice(request), 0, 0, *asked)

        def next_rows(request: gr.Request, *asked: Any) -> tuple[int, str]:
            return turn_page(Voice(request), 1, *asked)

        def previous_rows(request: gr.Request, *asked: Any) -> tuple[int, str]:
            return turn_page(Voice(request), -1, *asked)

        asked = [self.page, self.order, self.search, *form.inputs]
        self.on.click(next_rows, asked, self.outputs, **BRIEFLY)
        self.back.click(previous_rows, asked, self.outputs, **BRIEFLY)
        gr.on([self.order.input, self.search.input], find_rows, asked[1:], self.outputs, **UNSEEN, **LATEST)


def examined(findings: Findings, pages: Pages, form: Form, preview: Preview) -> tuple[dict[str, Any], dict[str, Any]]:
    """The event that reads all rows, asks the doctor, and shows the first page; and the one that does so for a new mapping."""

    def check_rows(request: gr.Request, taken: Taken, order: str, search: str, *values: Any) -> list[Any]:
        voice, mended = Voice(request), can_undo(taken, boxes_of(form, values))
        mapped = form.nested(values)["template"]
        try:
            config = form.read(values)
            found = preview.look(config)
            checked = numbers(config, found)
        except UserError as error:
            return [mapped, *findings.show_instead(hindrance(error, values, voice), mended), 0, ""]
        picked = chosen_rows(found, order, search)
        first = rows_html(found, picked, 0, config.training, voice) if picked else no_rows_html(order, search, voice)
        return [mapped, *findings.show(found, checked, mended, voice), 0, first]

    def check_mapping(request: gr.Request, mapped: dict, *asked: Any) -> list[Any]:
        """Who only passes through a box keeps the page of rows that is open."""
        same = form.nested(asked[-len(form.inputs) :])["template"] == mapped
        return [gr.skip() for _ in outputs] if same else check_rows(request, *asked)

    def hindrance(error: UserError, values: tuple[Any, ...], voice: Voice) -> str:
        """The first thing that stands in the way: the rows, then the mapping, then all that is wrong with the form."""
        if broken := unread(form, values):
            return error_html(broken, voice)
        step = next_step(form.nested(values)["template"])
        return hint_html(voice(step)) if step else error_html(error, voice)

    asked = [findings.taken, pages.order, pages.search, *form.inputs]
    outputs = [findings.mapped, *findings.outputs, *pages.outputs]
    examine = {"fn": check_rows, "inputs": asked, "outputs": outputs, **BRIEFLY}
    return examine, examine | {"fn": check_mapping, "inputs": [findings.mapped, *asked]}
