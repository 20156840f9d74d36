"""2 Data: where the rows come from, what is asked and what is learned, and five rows exactly as the model will see them."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from ftui.config import RunConfig
from ftui.dataset import DatasetSource, Rows
from ftui.encoding import Encoding, TokenView
from ftui.errors import UserError
from ftui.examples import prepare
from ftui.models import load_tokenizer, model_folder
from ftui.runs import RunStore
from ftui.template import propose
from ftui.ui.fieldset import Fields, Form, fieldset, tell
from ftui.ui.language import Voice, say

SAMPLES = ("samples/tickets.jsonl", "samples/labels.csv", "samples/schemas.jsonl", "samples/voice.jsonl")
FILE_TYPES = [".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".xlsx", ".txt", ".md", ".gz"]
SHOWN_TOKENS = 1500
PREVIEWED_ROWS = 50_000


def data_tab(first: RunConfig, store: RunStore, model: Fields, tab: gr.Tab) -> Fields:
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
                label=say("CSV, JSON, JSONL, Parquet or text"), file_types=FILE_TYPES, height=120, elem_id="upload"
            )
            read = gr.Button(say("Read these rows"), elem_id="read_rows")
            recognized = gr.Markdown(elem_id="recognized")
            gr.Markdown(say("Click a column to put it where it belongs, or write {{column}} yourself."))
            with gr.Row():
                question = gr.Dropdown([], label=say("Question column"), min_width=120, interactive=True)
                answer = gr.Dropdown([], label=say("Answer column"), min_width=120, interactive=True)
            system = gr.Textbox(template.system, label=say("System"), lines=2, elem_id="template_system")
            prompt = gr.Textbox(template.prompt, label=say("Prompt"), lines=3, elem_id="template_prompt")
            completion = gr.Textbox(
                template.completion, label=say("Completion"), lines=2, elem_id="template_completion"
            )
            with gr.Row():
                messages = gr.Textbox(
                    template.messages or "",
                    label=say("Conversation column"),
                    info=say("Chat data: each row holds a whole conversation."),
                    max_lines=1,
                )
                text = gr.Textbox(
                    template.text or "",
                    label=say("Text column"),
                    info=say("Plain text: all of it is learned."),
                    max_lines=1,
                )
            with gr.Accordion(say("Advanced: reading and splitting"), open=False):
                split = fieldset(first.split, "split")
                source = fieldset(first.dataset, "dataset", leave_out=("path", "text_unit"))
        with gr.Column(scale=2):
            rows = gr.Dataframe(
                label=say("The rows"),
                interactive=False,
                datatype="str",
                max_chars=80,
                max_height=260,
                buttons=["fullscreen"],
            )
            show = gr.Button(say("Show five rows"), variant="primary", elem_id="show_examples")
            seen = gr.HTML(elem_id="seen", padding=False)

    own: Fields = {
        "dataset.path": path,
        "template.system": system,
        "template.prompt": prompt,
        "template.completion": completion,
        "template.messages": messages,
        "template.text": text,
        **split,
        **source,
    }
    shown = Form({**model, **own})

    table = [rows, question, answer]
    proposed = [recognized, prompt, completion, messages, text]
    private = {"api_visibility": "private", "show_progress": "minimal"}

    def show_rows(path: str) -> list[Any]:
        try:
            return _table(_load(path))
        except UserError as error:
            raise tell(error) from None

    def propose_template(path: str) -> list[Any]:
        try:
            found = _load(path)
            return [*_table(found), *_proposal(found)]
        except UserError as error:
            raise tell(error) from None

    def keep_upload(uploaded: str) -> str:
        try:
            return str(store.keep_upload(Path(uploaded)))
        except UserError as error:
            raise tell(error) from None

    def show_examples(request: gr.Request, *values: Any) -> str:
        try:
            return _seen(shown.read(values), Voice(request))
        except UserError as error:
            raise tell(error) from None

    tab.select(show_rows, path, table, **private).then(show_examples, shown.inputs, seen, **private)
    kept = upload.upload(keep_upload, upload, path, **private)
    for chosen in (path.input, read.click, kept.success):
        chosen(propose_template, path, [*table, *proposed], **private).success(
            show_examples, shown.inputs, seen, **private
        )
    show.click(show_examples, shown.inputs, seen, **private)

    @question.input(inputs=[question, prompt], outputs=prompt, api_visibility="private")
    def put_question(column: str, prompt: str) -> str:
        return "{{" + column + "}}" if not prompt.strip() else prompt.rstrip() + "\n{{" + column + "}}"

    @answer.input(inputs=answer, outputs=completion, api_visibility="private")
    def put_answer(column: str) -> str:
        return "{{" + column + "}}"

    return own


def _load(path: str) -> Rows:
    return DatasetSource(path=str(path or "").strip(), limit=PREVIEWED_ROWS).load()


def _table(rows: Rows) -> list[Any]:
    """The first rows, and the columns to choose from."""
    columns = list(rows.columns)
    head = [[_cell(row.get(column)) for column in columns] for row in rows.head(20)]
    return [
        {"headers": columns, "data": head},
        gr.Dropdown(choices=columns, value=None),
        gr.Dropdown(choices=columns, value=None),
    ]


def _proposal(rows: Rows) -> list[Any]:
    """What was recognized, in a sentence, and the template that follows from it."""
    proposal = propose(rows)
    sentences = [f"**{len(rows):,} × {len(rows.columns)}.** {escape(proposal.sentence)}", *map(escape, rows.notes)]
    if rows.problems:
        sentences.append(f"**{len(rows.problems)} ✗** {escape(str(rows.problems[0]))}")
    template = proposal.template
    boxes = (
        [template.prompt, template.completion, template.messages or "", template.text or ""] if template else [""] * 4
    )
    return ["\n\n".join(sentences), *boxes]


def _cell(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _seen(config: RunConfig, voice: Voice) -> str:
    encoding = Encoding(
        load_tokenizer(model_folder(config.base_model, config.revision, report=lambda _: None)), config.chat_template
    )
    examples = prepare(
        config, encoding, config.dataset.model_copy(update={"limit": config.dataset.limit or 5000}).load()
    )
    usable = [*examples.train, *examples.validation, *examples.test]
    learned, tokens = sum(e.encoded.trained for e in usable), sum(len(e.encoded.input_ids) for e in usable)
    total = len(usable) + len(examples.left_out)
    facts = [
        voice(
            "{rows} rows: {usable} can be used, {left} are left out",
            rows=voice.number(total),
            usable=voice.number(len(usable)),
            left=len(examples.left_out),
        ),
        voice(
            "the longest has {longest} tokens",
            longest=voice.number(max(len(e.encoded.input_ids) + e.encoded.cut for e in usable)),
        ),
        voice("{share} of the tokens are learned", share=f"{learned / tokens:.0%}"),
    ]
    notes = "".join(f"<p class='warn'>{escape(note)}</p>" for note in (*encoding.notes, *examples.notes()))
    legend = " ".join(
        f"<span class='token {kind}'>{escape(voice(name))}</span>"
        for kind, name in (
            ("context", "context"),
            ("learned", "learned"),
            ("cut", "cut off"),
            ("context special", "special token"),
        )
    )
    shown = "".join(
        _row(encoding.explain(e.messages, config.training.max_length), e.row, voice) for e in examples.train[:5]
    )
    return f"<div class='card'><h3>{escape(voice('What the model will see'))}</h3><p>{' · '.join(facts)}</p>{notes}<p class='legend'>{legend}</p>{shown}</div>"


def _row(tokens: list[TokenView], row: int, voice: Voice) -> str:
    marks = "".join(_token(token) for token in tokens[:SHOWN_TOKENS])
    return f"<h4>{voice('Row {row}', row=row + 1)}</h4><div class='tokens'>{marks}</div>"


def _token(token: TokenView) -> str:
    kind = f"token {token.kind}{' special' if token.special else ''}"
    text = escape(token.text).replace("\n", "↵<br>")
    return f"<span class='{kind}' title='{token.id}: {escape(repr(token.text), quote=True)}'>{text}</span>"
