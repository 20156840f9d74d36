"""The source: where the rows come from, and how they are read and split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from ftui.config import RunConfig
from ftui.dataset import DatasetSource, Rows
from ftui.dataset.delimited import is_table
from ftui.dataset.formats import DELIMITED, JSON, PROSE, TABLES
from ftui.errors import UserError
from ftui.runs import RunStore
from ftui.settings import checked
from ftui.ui.events import BRIEFLY, telling
from ftui.ui.fieldset import Fields, Form, fieldset
from ftui.ui.language import say

SAMPLES = ("samples/tickets.jsonl", "samples/labels.csv", "samples/schemas.jsonl", "samples/voice.jsonl")
FILE_TYPES = [*DELIMITED, *JSON, *TABLES, *PROSE, ".gz"]
PREVIEWED_ROWS = 50_000


class Source:
    def __init__(self, first: DatasetSource) -> None:
        self.path = gr.Dropdown(
            [(Path(sample).stem, sample) for sample in SAMPLES],
            value=str(first.path),
            label=say("Where the rows come from"),
            info=say("A file or folder on the server, or owner/name on the Hub."),
            allow_custom_value=True,
            elem_id="dataset_path",
        )
        self.upload = gr.File(
            label=say("CSV, Excel, JSON, JSONL, Parquet or text"),
            file_types=FILE_TYPES,
            file_count="multiple",
            height=150,
            elem_id="upload",
        )
        with gr.Accordion(say("Paste rows"), open=False):
            self.pasted = gr.Textbox(
                label=say("CSV, JSON, JSONL or plain text"), lines=5, max_lines=15, elem_id="pasted"
            )
            self.paste = gr.Button(say("Use this text"), elem_id="paste")
        self.read = gr.Button(say("Read these rows"), elem_id="read_rows")
        self.fields: Fields = {"dataset.path": self.path}

    def wire(self, store: RunStore) -> list[Callable[..., Any]]:
        """Keeps what is uploaded or pasted; returns all events after which there are other rows to read."""

        def keep_uploads(uploaded: list[str]) -> str:
            with telling():
                return str(store.keep_uploads([Path(file) for file in uploaded]))

        def keep_text(text: str) -> str:
            with telling():
                return str(store.keep_text(text, f"rows{_suffix(text)}"))

        kept = self.upload.upload(keep_uploads, self.upload, self.path, **BRIEFLY)
        written = self.paste.click(keep_text, self.pasted, self.path, **BRIEFLY)
        return [self.path.input, self.read.click, kept.success, written.success]


class Advanced:
    def __init__(self, first: RunConfig) -> None:
        with gr.Accordion(say("Advanced: reading and splitting"), open=False):
            self.split = fieldset(first.split, "split")
            self.reading = fieldset(first.dataset, "dataset", leave_out=("path",))


def first_rows(form: Form, values: tuple[Any, ...]) -> Rows:
    """Read as the form says: enough for every look that the page takes at them."""
    source = checked(DatasetSource, form.nested(values)["dataset"])
    return source.model_copy(update={"limit": min(source.limit or PREVIEWED_ROWS, PREVIEWED_ROWS)}).load()


def unread(form: Form, values: tuple[Any, ...]) -> UserError | None:
    """Why the rows cannot be read; None where they can."""
    try:
        first_rows(form, values)
    except UserError as error:
        return error
    return None


def _suffix(text: str) -> str:
    """What pasted text is: JSON, JSON lines, a table, or just text."""
    if not text.strip():
        raise UserError("The box is empty. Paste some rows first.")
    lines = text.strip().splitlines()
    if text.strip()[0] in "[{":
        return ".jsonl" if len(lines) > 1 and lines[1].strip().startswith("{") and text.strip()[0] == "{" else ".json"
    return ".csv" if len(lines) > 1 and is_table(text.strip()) else ".txt"
