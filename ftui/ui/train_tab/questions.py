"""The plain questions: which preset, how long, how much change; and the settings that their answers fill in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from ftui.config import LoraSettings, Preset, TrainingSettings, presets
from ftui.errors import UserError
from ftui.models import describe
from ftui.settings import checked
from ftui.ui.events import LATEST, PRIVATE, QUIET, UNSEEN
from ftui.ui.fieldset import Form
from ftui.ui.language import say
from ftui.ui.simple import LENGTHS, STRENGTH_PATHS, STRENGTHS, settings_of, strength_of

OWN = "own"
TOLD_BY = ("base_model", "dataset.", "template.")  # with others it is no longer that preset; settings may differ


def how_long() -> gr.Radio:
    """The answer to how long a run is to be; the Data tab sets it, this one draws it."""
    choices = [(say(label), key) for key, label in LENGTHS.items()]
    return gr.Radio(choices, value="standard", label=say("How long"), elem_id="length", render=False)


class Questions:
    def __init__(self, length: gr.Radio) -> None:
        """Drawn as the starter preset answers them."""
        self.presets = {preset.name: preset for preset in presets()}
        first = self.presets["starter"]
        self.preset = gr.Dropdown(
            [*((say(preset.title), name) for name, preset in self.presets.items()), (say("Your own"), OWN)],
            value=first.name,
            label=say("Preset"),
            info=say("Choosing one fills in everything: model, data, template and settings."),
            elem_id="preset",
        )
        self.needs = gr.Markdown(say(first.needs), elem_classes="quiet")
        length.render()
        self.strength = gr.Radio(
            [(say(label), key) for key, label in STRENGTHS.items()],
            value=strength_of(first.config.lora, first.config.training),
            label=say("How much it may change the model"),
            info=say("More learns more from the rows, and forgets more of what it could before."),
            elem_id="strength",
        )
        self.stands_for = gr.Markdown(
            _in_words(first.config.lora, first.config.training), elem_classes="quiet", elem_id="stands_for"
        )

    def fill_from_preset(self, form: Form) -> gr.events.Dependency:
        def use_preset(name: str) -> list[Any]:
            if name == OWN:
                return [gr.skip() for _ in (self.needs, *form.inputs)]
            preset = self.presets[name]
            return [say(preset.needs), *form.fill(preset.config)]

        return self.preset.input(use_preset, self.preset, [self.needs, *form.inputs], **PRIVATE)

    def fill_from_strength(self, form: Form) -> gr.events.Dependency:
        """Another base model is filled in for as well: the same step means other numbers for it."""
        strong, base_model = form.part(STRENGTH_PATHS), form.by_path["base_model"]

        def change_strength(strength: str, base_model: str) -> list[Any]:
            if strength == "own":
                return [gr.skip() for _ in STRENGTH_PATHS]
            return strong.boxes(settings_of(strength, _parameters(base_model)))

        chosen = [self.strength.input, base_model.input]
        return gr.on(chosen, change_strength, [self.strength, base_model], strong.inputs, **UNSEEN)

    def follow(self, form: Form, fills: list[gr.events.Dependency], tab: gr.Tab) -> None:
        """Shows which preset and which step the form is, whenever it was filled in or written."""
        strong, told = form.part(STRENGTH_PATHS), form.part([path for path in form.paths if path.startswith(TOLD_BY)])

        def show_preset(*values: Any) -> tuple[str, object]:
            """The preset that the form still is, and what that needs."""
            name = preset_of(told, values, self.presets)
            return name, say(self.presets[name].needs) if name in self.presets else ""

        def show_strength(*values: Any) -> tuple[str, Any]:
            """The step that the settings are, and what it stands for."""
            try:
                nested = strong.nested(values)
                lora, training = checked(LoraSettings, nested["lora"]), checked(TrainingSettings, nested["training"])
            except UserError:  # half a number, while it is typed
                return "own", gr.skip()
            return strength_of(lora, training), _in_words(lora, training)

        shows_preset = (show_preset, told.inputs, [self.preset, self.needs])
        shows_strength = (show_strength, strong.inputs, [self.strength, self.stands_for])
        for filled in fills:
            filled.then(*shows_preset, **QUIET)
            filled.then(*shows_strength, **QUIET)
        tab.select(*shows_preset, **QUIET)
        gr.on([tab.select, *(box.blur for box in strong.inputs)], *shows_strength, **QUIET, **LATEST)


def preset_of(told: Form, values: Sequence[Any], presets: Mapping[str, Preset]) -> str:
    """The preset that filled in these values of `told`, or OWN."""
    shown = [value or "" for value in values]
    same = (name for name, preset in presets.items() if [box or "" for box in told.fill(preset.config)] == shown)
    return next(same, OWN)


def _in_words(lora: LoraSettings, training: TrainingSettings) -> str:
    """The settings behind a step, under the names they have below."""
    named = {"r": lora.r, "lora_alpha": lora.lora_alpha, "learning_rate": f"{training.learning_rate:g}"}
    targets = lora.target_modules if isinstance(lora.target_modules, str) else ", ".join(lora.target_modules)
    return " · ".join(f"{name} {value}" for name, value in {**named, "target_modules": targets}.items())


def _parameters(base_model: str) -> int | None:
    """How large the model is; None where that cannot be found out now."""
    try:
        return describe(str(base_model or "").strip(), report=lambda _: None).parameters
    except UserError:
        return None
