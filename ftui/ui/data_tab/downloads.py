"""What can be taken away from the Data tab: the prepared rows in the shapes of other tools, and what the doctor found."""

from __future__ import annotations

from pathlib import Path
from secrets import token_hex
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from ftui.check import REPORTS, numbers, write_report
from ftui.errors import UserError
from ftui.shapes import SHAPES, write_parts
from ftui.ui.events import tell
from ftui.ui.fieldset import Form
from ftui.ui.language import Voice, say
from ftui.ui.preview import Preview

TITLES = {
    "openai": "Rows as OpenAI JSONL",
    "sharegpt": "Rows as ShareGPT",
    "alpaca": "Rows as Alpaca",
    "prompt-completion": "Rows as prompt and completion",
    "html": "Report as a page (HTML)",
    "md": "Report as text (Markdown)",
    "csv": "Report as a table (CSV)",
}


def downloads(shown: Form, preview: Preview) -> None:
    """Draws the choice, the button and the files; `shown` is the form that says which rows."""
    with gr.Accordion(say("Save rows or report"), open=False):
        with gr.Row():
            kind = gr.Dropdown(
                [(say(title), kind) for kind, title in TITLES.items()],
                value="openai",
                label=say("What to save"),
                elem_id="kind",
                scale=3,
            )
            save = gr.Button(say("Save"), scale=1, elem_id="save")
        files = gr.File(label=say("Files"), file_count="multiple", interactive=False, visible=False, elem_id="files")

    @save.click(inputs=[kind, *shown.inputs], outputs=files, api_visibility="private")
    def save_files(request: gr.Request, kind: str, *values: Any) -> Any:
        folder = Path(get_upload_folder()) / token_hex(8)  # Gradio serves what lies there and clears it away
        try:
            config = shown.read(values)
            found = preview.look(config)
            folder.mkdir(parents=True)
            if kind in REPORTS:
                paths = [write_report(numbers(config, found), folder / f"check.{kind}", Voice(request).known)]
            elif kind in SHAPES:
                written = write_parts(found.examples, kind, folder)
                paths = written.paths
                if written.left_out:
                    gr.Warning(Voice(request).known(written.sentence))
            else:
                raise UserError("Choose what to save.")
        except UserError as error:
            raise tell(error) from None
        except OSError as error:
            raise tell(UserError(f"Nothing was saved: {error.strerror}. Free some space.")) from None
        return gr.File([str(path) for path in paths], visible=True)
