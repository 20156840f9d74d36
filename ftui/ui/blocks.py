"""Gradio's Blocks, but what a browser sends can name no file except those that were uploaded here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder, is_in_or_equal

from ftui.errors import UserError
from ftui.ui.events import tell


class Blocks(gr.Blocks):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.has_launched = True  # else Gradio allows every path: only launch() sets it, and a mount does not

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *rest: Any, **named: Any) -> list[Any]:
        if names_foreign_file(inputs):
            raise tell(UserError("Only files that were uploaded to this page can be used here."))
        return await super().preprocess_data(block_fn, inputs, *rest, **named)


def names_foreign_file(value: Any) -> bool:
    """Whether some part of what was sent is a file that nobody uploaded, an address to fetch one from, or a component:
    the chat would construct that with any arguments, files among them."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            if "component" in each or ("path" in each and not _is_upload(each["path"])):
                return True
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
    return False


def _is_upload(path: Any) -> bool:
    try:
        return is_in_or_equal(path, get_upload_folder()) and Path(path).is_file()
    except (OSError, ValueError, TypeError):
        return False
