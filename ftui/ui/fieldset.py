"""Fieldset: the inputs for one settings class, drawn from its fields; and Form, which reads all inputs into a RunConfig.

Nothing here names a hyperparameter: a field that is added to a settings class appears in the page by itself.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import gradio as gr
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ftui.config import RunConfig
from ftui.ui.events import QUIET
from ftui.ui.language import say

Fields = dict[str, gr.components.Component]
COMMA_LISTS = ("lora.target_modules", "evaluation.metrics", "evaluation.baselines")


def fieldset(settings: BaseModel, path: str, leave_out: Collection[str] = (), render: bool = True) -> Fields:
    """One input a field, by its path in the config (`training.learning_rate`).

    Without `render` they are made here and drawn later, in a tab that comes after one that reads them.
    """
    return {
        f"{path}.{name}" if path else name: input_of(settings, name, render=render)
        for name in type(settings).model_fields
        if name not in leave_out
    }


def input_of(
    settings: BaseModel, name: str, elem_id: str | None = None, render: bool = True
) -> gr.components.Component:
    """The input for one field, showing its value in `settings`."""
    field, value = type(settings).model_fields[name], getattr(settings, name)
    shown: dict[str, Any] = {**words_of(field), "elem_id": elem_id, "render": render}
    if field.annotation is bool:
        return gr.Checkbox(value, **shown)
    if get_origin(field.annotation) is Literal:
        choices = [(str(choice).lower(), choice) for choice in get_args(field.annotation)]  # true, as YAML writes it
        return gr.Dropdown(choices, value=value, **shown)
    # Numbers, too: a number box rounds 2e-4 away and cannot say what is wrong with "abc".
    return gr.Textbox(_to_box(value), max_lines=1, **shown)


def words_of(field: FieldInfo) -> dict[str, Any]:
    """Label and help of an input."""
    return {"label": say(str(field.title)), "info": say(str(field.description))}


class Form:
    """All inputs of the page that make a run, by their paths. The form is the session's state; this only translates."""

    def __init__(self, fields: Fields) -> None:
        self.by_path = fields
        self.paths = list(fields)
        self.inputs = list(fields.values())

    def part(self, paths: Sequence[str]) -> Form:
        return Form({path: self.by_path[path] for path in paths})

    def read(self, values: Sequence[Any]) -> RunConfig:
        """The config that the inputs hold. UserError names every mistake at once."""
        return RunConfig.parse(self.nested(values))

    def nested(self, values: Sequence[Any]) -> dict[str, Any]:
        nested: dict[str, Any] = {}
        for path, value in zip(self.paths, values, strict=True):
            *parents, last = path.split(".")
            inner = nested
            for parent in parents:
                inner = inner.setdefault(parent, {})
            inner[last] = _from_box(path, value)
        return {key: value for key, value in nested.items() if value is not None}

    def fill(self, config: RunConfig) -> list[Any]:
        """The value of every input, so that the page shows `config`."""
        values = config.model_dump(mode="json")
        return self.boxes({path: _lookup(values, path) for path in self.paths})

    def boxes(self, values: dict[str, Any]) -> list[Any]:
        """How each input shows its value in `values`, by path."""
        return ["\n".join(values[path]) if path == "watch_prompts" else _to_box(values[path]) for path in self.paths]


def _from_box(path: str, value: Any) -> Any:
    """What a box says, as the config takes it. An empty box is None where the field may be; nothing is guessed."""
    if path == "watch_prompts":
        return [line for line in str(value or "").splitlines() if line.strip()]
    if path in COMMA_LISTS and value != "auto":
        names = [name.strip() for name in str(value).split(",") if name.strip()]
        is_pattern = path == "lora.target_modules" and not all(re.fullmatch(r"[\w.]+", name) for name in names)
        return value if is_pattern else names
    if path == "dataset.path" and ", " in str(value) and not Path(value).exists():
        return value.split(", ")
    if isinstance(value, str) and not value.strip() and type(None) in get_args(_field(path).annotation):
        return None
    return value


def _field(path: str) -> FieldInfo:
    *parents, last = path.split(".")
    settings: Any = RunConfig
    for parent in parents:
        settings = settings.model_fields[parent].annotation
    return settings.model_fields[last]


def _to_box(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return value if isinstance(value, bool) or value is None else str(value)


def _lookup(values: dict[str, Any], path: str) -> Any:
    inner: Any = values
    for part in path.split("."):
        inner = inner[part]
    return inner


def remember(fields: Fields, kept: gr.BrowserState, studio: gr.Blocks) -> gr.events.Dependency:
    """Keeps what the inputs hold in the browser and, when the page is loaded, fills them again; returns that filling.

    All of it in the browser: an answer of the server would come after the first key and overwrite what was written.
    Another version's form, which had other inputs, is left alone.
    """
    inputs, form = list(fields.values()), zlib.crc32(" ".join(fields).encode())
    keep, restore = f"(...values) => [[{form}, ...values]]", f"kept => kept?.[0] === {form} ? kept.slice(1) : []"
    gr.on([box.change for box in inputs], None, inputs, kept, js=keep, **QUIET)
    return studio.load(None, kept, inputs, js=restore, **QUIET)
