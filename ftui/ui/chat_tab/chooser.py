"""The chooser: which run and which of its models answers, and what its template wants to know beside the message."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ftui.chat import ChatSettings, Speaker
from ftui.errors import UserError
from ftui.proof import best_model, differs
from ftui.runs import ENDED, Run, RunStore
from ftui.train import checkpoint_at, complete_checkpoints, step_of
from ftui.ui.fieldset import fieldset
from ftui.ui.language import Voice, say
from ftui.ui.run_html import run_title

MOST_COLUMNS = 4
AT_STEP = "step "  # a checkpoint among the models to choose from
MODELS = {"merged": "Fine-tuned (merged)", "adapter": "Fine-tuned (adapter)", "base": "Original"}


class Chooser:
    """`outputs`, and what they `show` for a run, come in the same order. `inputs`: all that a reply depends on beside the talk."""

    def __init__(self) -> None:
        self.run = gr.Dropdown([], label=say("Run"), elem_id="chat_run")
        self.which = gr.Radio(
            [(say(label), key) for key, label in MODELS.items()],
            value="merged",
            label=say("Which model"),
            elem_id="which",
        )
        self.system = gr.Textbox(label=say("System prompt"), lines=3, elem_id="chat_system")
        self.columns = [gr.Textbox(visible=False, lines=2) for _ in range(MOST_COLUMNS)]
        self.remember = gr.Checkbox(
            False, label=say("Remember the conversation"), info=say("Off for tasks that were trained row by row.")
        )
        with gr.Accordion(say("How it answers"), open=False):
            self.settings = fieldset(ChatSettings(), "")
        self.outputs = [self.run, self.which, self.system, self.remember, *self.columns]
        self.inputs = [*self.outputs, *self.settings.values()]

    def show(self, ready: dict[str, Run], run: Run | None, which: str | None, voice: Voice) -> list[Any]:
        """The runs to choose from, by id; the chosen one, and its model `which`, else its best."""
        choices = [(run_title(run, voice), name) for name, run in ready.items()]
        shown = gr.Dropdown(choices=choices, value=run.run_id if run else None)
        hidden = [gr.Textbox(visible=False, value="") for _ in range(MOST_COLUMNS)]
        if run is None or why_not(run):
            return [shown, gr.Radio(interactive=False), "", False, *hidden]
        models, template = _models(run, voice), run.config.template
        best = next(iter(models))
        boxes = [gr.Textbox(visible=True, label=name, value="") for name in given_columns(run)]
        return [
            shown,
            gr.Radio(
                choices=[(label, key) for key, label in models.items()],
                value=which if which in models else best,
                interactive=True,
            ),
            "" if "{{" in template.system else template.system,
            bool(template.messages),
            *boxes,
            *hidden[len(boxes) :],
        ]


def ready_runs(store: RunStore) -> dict[str, Run]:
    """Those that can be asked, by id, the newest first."""
    return {run.run_id: run for run in store.list() if run.state in ENDED and can_chat(run)}


def can_chat(run: Run) -> bool:
    """Whether anything that was learned is there; the untouched base alone is not offered."""
    return run.adapter_dir.is_dir() or bool(complete_checkpoints(run.checkpoints_dir))


def why_not(run: Run | None) -> str | None:
    """Why nothing can be asked on the page, if so; another run can still be chosen."""
    if run is None:
        return "There is no model to chat with yet. Train one first."
    try:
        given_columns(run)
    except UserError as error:
        return str(error)
    return None


def _models(run: Run, voice: Voice) -> dict[str, str]:
    """The models of a run that are there, the best first, with their labels."""
    there = {"merged": run.merged_dir.is_dir(), "adapter": run.adapter_dir.is_dir()}
    steps = map(step_of, complete_checkpoints(run.checkpoints_dir))
    trained = sorted((key for key in MODELS if there.get(key)), key=lambda key: key != best_model(run))
    found = {which: label_of(which, voice) for which in (*trained, *(f"{AT_STEP}{step}" for step in steps), "base")}
    if there["merged"] and differs(run.read_json("proof.json")):
        found["merged"] = voice("Fine-tuned (merged, failed its check)")
    return found


def label_of(which: str, voice: Voice) -> str:
    """A model in words, as the choice names it."""
    if which.startswith(AT_STEP):
        return voice("checkpoint of step {step}", step=which.removeprefix(AT_STEP))
    return voice(MODELS[which])


def speaker_of(run: Run, which: str) -> Speaker:
    """What the chosen model is to the core. UserError for a checkpoint that has gone meanwhile."""
    if which.startswith(AT_STEP):
        return Speaker(run, "adapter", checkpoint_at(run, int(which.removeprefix(AT_STEP))))
    return Speaker(run, which)


def given_columns(run: Run) -> list[str]:
    """Columns that get a box of their own: all that system and prompt use but the last one of the prompt, which is the message.

    UserError when there are more than boxes, and when the config of the run cannot be read.
    """
    template = run.config.template
    asked = [column for column in template.prompt_columns if "{{" + column in template.prompt.replace("{{ ", "{{")]
    columns = [column for column in template.prompt_columns if column not in asked[-1:]]
    if len(columns) > MOST_COLUMNS:
        raise UserError(
            f"This run's template uses {len(columns) + 1} columns; the chat has boxes for {MOST_COLUMNS}. Use the terminal: --column."
        )
    return columns
