"""Draft: the run that the page would start. Like the form it holds nothing; each session's inputs do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from ftui.config import RunConfig
from ftui.ui.fieldset import Form
from ftui.ui.simple import length_of, lengthened


class Draft:
    """The form, and how long the person wants the run to be."""

    def __init__(self, length: gr.Radio, form: Form) -> None:
        self.length, self.form = length, form
        self.inputs = [length, *form.inputs]

    def read(self, values: Sequence[Any]) -> RunConfig:
        """What Start would carry out. UserError names every mistake at once."""
        length, *boxes = values
        return lengthened(self.form.read(boxes), length)

    def fill(self, config: RunConfig) -> list[Any]:
        """The value of every input, so that Start would carry out `config`, neither shorter nor longer."""
        length, whole = length_of(config)
        return [length, *self.form.fill(whole)]
