"""1 Model: which base model, what it is, and whether it can be tuned here."""

from __future__ import annotations

from html import escape

import gradio as gr

from ftui.config import RunConfig
from ftui.device import gpu_problem, this_device
from ftui.encoding import CHAT_TEMPLATES
from ftui.errors import UserError
from ftui.models import STARTER, ModelFacts, describe
from ftui.ui.events import PRIVATE
from ftui.ui.fieldset import Fields, input_of, words_of
from ftui.ui.language import Voice, say
from ftui.ui.supervision import error_html

SUGGESTED = (
    "Qwen/Qwen2.5-0.5B-Instruct",
    "Qwen/Qwen2.5-1.5B-Instruct",
    "Qwen/Qwen3-4B",
    "meta-llama/Llama-3.1-8B-Instruct",
)


def model_tab(first: RunConfig, studio: gr.Blocks) -> Fields:
    with gr.Row():
        with gr.Column(scale=1):
            base_model = gr.Dropdown(
                [(say("Starter: SmolLM2 135M, runs anywhere"), STARTER), *SUGGESTED],
                value=first.base_model,
                label=say("Base model"),
                info=say("Choose one, or write a Hub id or a local folder."),
                allow_custom_value=True,
                elem_id="base_model",
            )
            advanced = _advanced(first)
            look = gr.Button(say("Look at this model"), variant="secondary")
        facts = gr.HTML(elem_id="model_facts", scale=1, padding=False)

    @gr.on(
        [studio.load, look.click, base_model.change],
        inputs=[base_model, advanced["revision"]],
        outputs=facts,
        **PRIVATE,
    )
    def show_model(base_model: str, revision: str, request: gr.Request) -> str:
        voice = Voice(request)
        try:
            return _card(describe(str(base_model or "").strip(), revision or None, report=lambda _: None), voice)
        except UserError as error:
            return error_html(error, voice)

    return {"base_model": base_model, **advanced}


def _advanced(first: RunConfig) -> Fields:
    with gr.Accordion(say("Advanced"), open=False):
        return {
            "revision": input_of(first, "revision"),
            "chat_template": gr.Dropdown(
                ["auto", *CHAT_TEMPLATES],
                value=first.chat_template,
                allow_custom_value=True,
                **words_of(RunConfig.model_fields["chat_template"]),
            ),
            "adapter": input_of(first, "adapter", elem_id="adapter"),
        }


def _card(facts: ModelFacts, voice: Voice) -> str:
    device = this_device()
    context = f"{voice.number(facts.context)} {voice('tokens')}" if facts.context else "–"
    rows = {
        "Origin": voice.known(facts.origin),
        "Architecture": facts.architecture,
        "Parameters": f"{voice.number(facts.parameters / 1e6)} M · {voice.number(facts.weights / 1e9, 2)} GB",
        "Context": context,
        "Chat template": voice("its own") if facts.chat_template else voice("none; plain text is used"),
        "License": facts.license or voice("not stated"),
        "This machine": f"{device.name}: {voice('{gb} GB of memory, {cores} cores', gb=round(device.memory / 1e9), cores=device.cores)}, "
        + voice("computes in {dtype}", dtype=str(device.dtype).removeprefix("torch.")),
    }
    cells = "".join(
        f"<tr><th scope='row'>{escape(voice(name))}</th><td>{escape(value)}</td></tr>" for name, value in rows.items()
    )
    verdict = voice.known(facts.problem) if facts.problem else voice("This model can be tuned.")
    mark = "bad" if facts.problem else "good"
    problem = gpu_problem()
    unused = f"<p class='warn'>{escape(voice.known(problem))}</p>" if problem else ""
    return (
        f"<div class='card'><p class='{mark}'>{escape(verdict)}</p><table class='facts'>{cells}</table>{unused}</div>"
    )
