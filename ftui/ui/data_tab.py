"""2 Data: where the rows come from, what is asked and what is learned, what is wrong with them, and how the model sees them."""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ftui.check import numbers, suited
from ftui.config import RunConfig, checked
from ftui.dataset import DatasetSource, Rows
from ftui.doctor import apply_fix
from ftui.errors import UserError
from ftui.runs import RunStore
from ftui.template import PromptTemplate, Proposal, propose
from ftui.template.mapping import NAMED, PARTS, ROLES, WRITTEN, roles_in, with_role
from ftui.ui.downloads import downloads
from ftui.ui.events import tell
from ftui.ui.fieldset import Fields, Form, fieldset
from ftui.ui.language import Voice, say
from ftui.ui.preview import Preview
from ftui.ui.supervision import ORDERS, SHOWN_ROWS, chosen_rows, error_html, facts_html, problems_html, rows_html

SAMPLES = ("samples/tickets.jsonl", "samples/labels.csv", "samples/schemas.jsonl", "samples/voice.jsonl")
FILE_TYPES = [".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".xlsx", ".txt", ".md", ".gz"]
PREVIEWED_ROWS = 50_000


def data_tab(first: RunConfig, store: RunStore, preview: Preview, model: Fields, tab: gr.Tab) -> Fields:
    template = first.template
    with gr.Row():
        with gr.Column(scale=1):
            path = gr.Dropdown(
                [(Path(sample).stem, sample) for sample in SAMPLES],
                value=str(first.dataset.path),
                label=say("Where the rows come from"),
                info=say("A file or folder on the server, or owner/name on the Hub."),
                allow_custom_value=True,
                elem_id="dataset_path",
            )
            upload = gr.File(
                label=say("CSV, JSON, JSONL, Parquet or text"),
                file_types=FILE_TYPES,
                file_count="multiple",
                height=120,
                elem_id="upload",
            )
            with gr.Accordion(say("Paste rows"), open=False):
                pasted = gr.Textbox(
                    label=say("CSV, JSON, JSONL or plain text"), lines=5, max_lines=15, elem_id="pasted"
                )
                paste = gr.Button(say("Use this text"), elem_id="paste")
            read = gr.Button(say("Read these rows"), elem_id="read_rows")
            recognized = gr.Markdown(elem_id="recognized")
            gr.Markdown(say("Choose the column for each role, or write {{column}} yourself."))
            mapping = _mapping(template)
            system = gr.Textbox(template.system, label=say("System"), lines=2, elem_id="template_system")
            prompt = gr.Textbox(template.prompt, label=say("Prompt"), lines=3, elem_id="template_prompt")
            completion = gr.Textbox(
                template.completion, label=say("Completion"), lines=2, elem_id="template_completion"
            )
            reasoning = gr.Textbox(
                template.reasoning,
                label=say("Reasoning"),
                info=say(str(PromptTemplate.model_fields["reasoning"].description)),
                lines=1,
                elem_id="template_reasoning",
            )
            with gr.Accordion(say("Advanced: reading and splitting"), open=False):
                split = fieldset(first.split, "split")
                source = fieldset(first.dataset, "dataset", leave_out=("path",))
        with gr.Column(scale=2):
            rows = gr.Dataframe(
                label=say("The rows"),
                interactive=False,
                datatype="str",
                max_chars=80,
                max_height=240,
                buttons=["fullscreen"],
            )
            look = gr.Button(say("Check and show"), variant="primary", elem_id="show_examples")
            facts = gr.HTML(elem_id="facts", padding=False)
            problems = gr.HTML(elem_id="problems", padding=False)
            with gr.Row(visible=False) as mending:
                fix = gr.Dropdown([], label=say("Fix"), scale=3, elem_id="fix")
                mend = gr.Button(say("Mend"), scale=1, elem_id="mend")
                undo = gr.Button(say("Undo"), scale=1, elem_id="undo")
            with gr.Row():
                order = gr.Dropdown(
                    [(say(name), key) for key, name in ORDERS.items()], value="order", label=say("Order")
                )
                search = gr.Textbox(label=say("Search"), max_lines=1, elem_id="search")
                back = gr.Button(say("Previous rows"), elem_id="back")
                on = gr.Button(say("Next rows"), elem_id="next")
            seen = gr.HTML(elem_id="seen", padding=False)
            below = gr.Column()

    own: Fields = {
        "dataset.path": path,
        "template.system": system,
        "template.prompt": prompt,
        "template.completion": completion,
        "template.reasoning": reasoning,
        **{f"template.{part}": mapping[part] for part in NAMED},
        **split,
        **source,
    }
    shown = Form({**model, **own})
    with below:
        downloads(shown, preview)
    reading = Form({"dataset.path": path, **source})
    page, before = gr.State(0), gr.State([])
    table = [rows, *mapping.values()]
    parts = [own[f"template.{part}"] for part in PARTS]
    proposed = [recognized, *parts]
    fitted = Form({path: box for path, box in shown.by_path.items() if path.startswith(_SUITED)})
    private = {"api_visibility": "private", "show_progress": "minimal"}

    def show_rows(*values: Any) -> list[Any]:
        try:
            return _table(_load(reading, values))
        except UserError as error:
            raise tell(error) from None

    def propose_template(request: gr.Request, *values: Any) -> list[Any]:
        try:
            found = _load(shown, values)
            proposal = propose(found)
        except UserError as error:
            raise tell(error) from None
        sentences, boxes, chosen = *_proposal(found, proposal), [gr.skip() for _ in fitted.inputs]
        try:
            template = proposal.template.model_dump() if proposal.template else _any_template(found)
            config = suited(RunConfig.parse(shown.nested(values) | {"template": template, "split": {}}), found)
            sentences.append(_chosen(config, Voice(request)))
            chosen = fitted.fill(config)
        except UserError:  # the check, which comes next, says it
            pass
        return [*_table(found), "\n\n".join(sentences), *boxes, *chosen]

    def keep_uploads(uploaded: list[str]) -> str:
        try:
            return str(store.keep_uploads([Path(file) for file in uploaded]))
        except UserError as error:
            raise tell(error) from None

    def keep_text(text: str) -> str:
        try:
            return str(store.keep_text(text, _suffix(text)))
        except UserError as error:
            raise tell(error) from None

    def check_rows(request: gr.Request, before: list[str], order: str, search: str, *values: Any) -> list[Any]:
        voice = Voice(request)
        try:
            config = shown.read(values)
            found = preview.look(config)
            examined = numbers(config, found)
        except UserError as error:  # in the place of what was shown before, which is no longer true
            return [
                error_html(error, voice),
                "",
                gr.Row(visible=bool(before)),
                gr.Dropdown(choices=[], value=None),
                0,
                "",
            ]
        fixes = [(problem.fix.title, problem.code) for problem in found.problems if problem.fix]
        picked = chosen_rows(found, order, search)
        return [
            facts_html(examined, voice),
            problems_html(examined, voice),
            gr.Row(visible=bool(fixes or before)),
            gr.Dropdown(choices=fixes, value=next((code for _, code in fixes), None)),
            0,
            rows_html(found, picked, 0, config.training, voice),
        ]

    def turn_page(voice: Voice, step: int, page: int, order: str, search: str, *values: Any) -> tuple[int, str]:
        try:
            config = shown.read(values)
            found = preview.look(config)
        except UserError as error:
            raise tell(error) from None
        picked = chosen_rows(found, order, search)
        page = max(0, min(page + step, (len(picked) - 1) // SHOWN_ROWS))
        return page, rows_html(found, picked, page, config.training, voice)

    def next_rows(request: gr.Request, *asked: Any) -> tuple[int, str]:
        return turn_page(Voice(request), 1, *asked)

    def previous_rows(request: gr.Request, *asked: Any) -> tuple[int, str]:
        return turn_page(Voice(request), -1, *asked)

    def mend_rows(code: str | None, before: list[str], path: str, *values: Any) -> tuple[str, list[str]]:
        try:
            found = preview.look(shown.read(values))
            problem = next((problem for problem in found.problems if problem.code == code and problem.fix), None)
            if problem is None:
                raise UserError("There is nothing to mend. Check the rows first.")
            lines = (json.dumps(row, ensure_ascii=False, default=str) for row in apply_fix(found.rows, problem))
            return str(store.keep_text("\n".join(lines) + "\n", ".jsonl")), [*before, path]
        except UserError as error:
            raise tell(error) from None

    def undo_fix(before: list[str], path: str) -> tuple[str, list[str]]:
        return (before[-1], before[:-1]) if before else (path, [])

    checked = [facts, problems, mending, fix, page, seen]
    asking = [order, search, *shown.inputs]
    tab.select(show_rows, reading.inputs, table, **private).then(check_rows, [before, *asking], checked, **private)
    kept = upload.upload(keep_uploads, upload, path, **private)
    written = paste.click(keep_text, pasted, path, **private)
    for chosen in (path.input, read.click, kept.success, written.success):
        chosen(propose_template, shown.inputs, [*table, *proposed, *fitted.inputs], **private).success(
            check_rows, [before, *asking], checked, **private
        )
    gr.on([look.click, order.input, search.submit], check_rows, [before, *asking], checked, **private)
    on.click(next_rows, [page, *asking], [page, seen], **private)
    back.click(previous_rows, [page, *asking], [page, seen], **private)
    mended = mend.click(mend_rows, [fix, before, path, *shown.inputs], [path, before], **private)
    undone = undo.click(undo_fix, [before, path], [path, before], **private)
    for changed in (mended.success, undone.success):
        changed(show_rows, reading.inputs, table, **private).success(check_rows, [before, *asking], checked, **private)

    for role, chosen in mapping.items():

        def put_column(column: str | None, *written: str | None, role: str = role) -> list[str | None]:
            return list(with_role(dict(zip(PARTS, written, strict=True)), role, column).values())

        chosen.input(put_column, [chosen, *parts], parts, **private)

    def show_roles(*written: str | None) -> list[str]:
        roles = roles_in(dict(zip(PARTS, written, strict=True)))
        return [roles[role] for role in ROLES]

    gr.on(
        [own[f"template.{part}"].change for part in WRITTEN],
        show_roles,
        parts,
        [mapping[role] for role in ROLES],
        api_visibility="private",
        show_progress="hidden",
        trigger_mode="always_last",
        queue=False,
    )
    return own


_SUITED = ("training.", "evaluation.", "split.", "watch_prompts")
_LABELS = {
    "system": "System", "question": "Question", "context": "Context", "answer": "Answer", "reasoning": "Reasoning",
    "history": "History", "messages": "Conversations", "tools": "Tools", "text": "Text",
}  # fmt: skip
_NO_COLUMN = ("—", "")


def _mapping(template: PromptTemplate) -> Fields:
    """A choice of columns for each role; the choices come with the rows. A path into a column can be written."""
    roles = roles_in(template.model_dump())
    made: Fields = {}
    with gr.Row():
        for role, label in _LABELS.items():
            made[role] = gr.Dropdown(
                [_NO_COLUMN],
                value=roles[role],
                label=say(label),
                allow_custom_value=True,
                min_width=160,
                interactive=True,
                elem_id=f"role_{role}",
            )
    return made


def _load(form: Form, values: tuple[Any, ...]) -> Rows:
    """The first rows, read as the form says."""
    source = checked(DatasetSource, form.nested(values)["dataset"])
    return source.model_copy(update={"limit": min(source.limit or PREVIEWED_ROWS, PREVIEWED_ROWS)}).load()


def _table(rows: Rows) -> list[Any]:
    """The first rows, and the columns to choose from."""
    columns = list(rows.columns)
    head = [[_cell(row.get(column)) for column in columns] for row in rows.head(20)]
    choices = [_NO_COLUMN, *((column, column) for column in columns)]
    return [{"headers": columns, "data": head}, *(gr.Dropdown(choices=choices) for _ in _LABELS)]


def _any_template(rows: Rows) -> dict[str, str]:
    """As long as nobody has said what asks and what answers: rows as long as all their columns together."""
    *asked, last = (f"{{{{{column}}}}}" for column in rows.columns)
    return {"prompt": "\n".join(asked), "completion": last} if asked else {"text": rows.columns[0]}


def _chosen(config: RunConfig, voice: Voice) -> str:
    """What the settings became with these rows, in a sentence."""
    return voice(
        "Chosen for these rows: {epochs} epochs, rows of up to {longest} tokens, answers of up to {answer}. You can change it under Train.",
        epochs=f"{config.training.num_train_epochs:g}",
        longest=voice.number(config.training.max_length),
        answer=voice.number(config.evaluation.max_new_tokens),
    )


def _proposal(rows: Rows, proposal: Proposal) -> tuple[list[str], list[str]]:
    """What was recognized, in sentences, and the template that follows from it."""
    sentences = [f"**{len(rows):,} × {len(rows.columns)}.** {escape(proposal.sentence)}", *map(escape, rows.notes)]
    if rows.problems:
        sentences.append(f"**{len(rows.problems)} ✗** {escape(str(rows.problems[0]))}")
    boxes = [(getattr(proposal.template, part) or "") if proposal.template else "" for part in PARTS]
    return sentences, boxes


def _cell(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _suffix(text: str) -> str:
    """What pasted text is: JSON, JSON lines, a table, or just text."""
    if not text.strip():
        raise UserError("The box is empty. Paste some rows first.")
    lines = text.strip().splitlines()
    if text.strip()[0] in "[{":
        return ".jsonl" if len(lines) > 1 and lines[1].strip().startswith("{") and text.strip()[0] == "{" else ".json"
    counts = [max((line.count(mark), mark) for mark in "\t;,|") for line in lines[:20]]
    return ".csv" if len(lines) > 1 and counts[0][0] and len({count for count, _ in counts}) == 1 else ".txt"
