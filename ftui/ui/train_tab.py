"""3 Train: presets, settings, start, watch, stop. The live view reads the newest run's folder, so every browser sees the same."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import gradio as gr

from ftui.background import BackgroundTrainer
from ftui.config import RunConfig, presets
from ftui.device import this_device
from ftui.errors import UserError
from ftui.plan import plan_of
from ftui.runs import ENDED, WORKING, Run, RunStore
from ftui.ui.fieldset import Fields, Form, fieldset, tell
from ftui.ui.language import Voice, say
from ftui.ui.live import log_html, loss_curve, plan_html, proof_html, status_html, watched_html
from ftui.ui.preview import Preview
from ftui.ui.pulse import Pulse

LENGTHS = {"quick": "Quick check (5 steps)", "standard": "Standard", "thorough": "Thorough (twice as long)"}


def train_tab(
    first: RunConfig,
    store: RunStore,
    trainer: BackgroundTrainer,
    preview: Preview,
    before: Fields,
    studio: gr.Blocks,
    tab: gr.Tab,
    pulse: Pulse,
) -> gr.Button:
    """Returns the button that leads to the chat. `before`: the inputs of the tabs before this one."""
    known = {preset.name: preset for preset in presets()}
    with gr.Row():
        with gr.Column(scale=1):
            preset = gr.Dropdown(
                [(say(known[name].title), name) for name in known],
                value="starter",
                label=say("Preset"),
                info=say("Fills in everything: model, data, template and settings."),
                elem_id="preset",
            )
            needs = gr.Markdown(say(known["starter"].needs), elem_classes="quiet")
            length = gr.Radio(
                [(say(label), key) for key, label in LENGTHS.items()], value="standard", label=say("How long")
            )
            planned = gr.HTML(elem_id="plan", padding=False)
            anyway = gr.Checkbox(False, label=say("Start although the doctor objects"), visible=False, elem_id="anyway")
            with gr.Row():
                start = gr.Button(say("Start training"), variant="primary", elem_id="start")
                stop = gr.Button(say("Stop and keep"), variant="stop", interactive=False, elem_id="stop")
            with gr.Row():
                queue = gr.Button(say("Add to the queue"), visible=False, elem_id="queue")
                resume = gr.Button(say("Resume this run"), variant="primary", visible=False, elem_id="resume")
            with gr.Group(visible=False) as line:
                waiting = gr.Dropdown([], label=say("Waiting"), allow_custom_value=True, elem_id="waiting")
                with gr.Row():
                    up = gr.Button(say("Move up"), size="sm")
                    remove = gr.Button(say("Take out"), size="sm")
            with gr.Accordion(say("All settings"), open=False, elem_id="settings"):
                gr.Markdown(say("Training"), elem_classes="group")
                training = [box.render() for path, box in before.items() if path.startswith("training.")]
                fields: Fields = {
                    **_group("Adapter", first.lora, "lora"),
                    **_group("Quantization", first.quantization, "quantization"),
                    **_group("Evaluation", first.evaluation, "evaluation"),
                }
                watch = gr.Textbox(
                    "\n".join(first.watch_prompts),
                    label=say("Watch prompts"),
                    info=say("One a line, asked before training and at every check. Empty: three validation rows."),
                    lines=3,
                )
                fields["watch_prompts"] = watch
            with gr.Accordion(say("The config as YAML"), open=False):
                yaml = gr.Code(language="yaml", interactive=True, lines=12, elem_id="yaml")
                with gr.Row():
                    show_yaml = gr.Button(say("Show"))
                    use_yaml = gr.Button(say("Use this YAML"))
        with gr.Column(scale=2):
            status = gr.HTML(elem_id="status", padding=False)
            to_chat = gr.Button(say("Chat with the result"), variant="primary", visible=False, elem_id="to_chat")
            plot = gr.LinePlot(
                None,
                x="step",
                y="loss",
                color="series",
                color_map={"training": "#4f46e5", "validation": "#ea580c"},
                x_title=" ",
                y_title=" ",
                color_title=" ",
                height=340,
                label=say("Loss"),
                visible=False,
                elem_id="plot",
            )
            watched = gr.HTML(elem_id="watched", padding=False)
            proof = gr.HTML(elem_id="proof", padding=False)
            with gr.Accordion(say("Log"), open=False):
                log = gr.HTML(elem_id="log")

    form = Form({**before, **fields})
    live = [status, plot, watched, proof, log, start, stop, to_chat, queue, resume, line, waiting]
    pulse.watch(live, lambda: _now(store, trainer), lambda voice: _snapshot(store, trainer, voice))

    @studio.load(outputs=live, queue=False, show_progress="hidden", api_visibility="private")
    def show_run(request: gr.Request) -> list[Any]:
        return _snapshot(store, trainer, Voice(request))

    def objections(config: RunConfig, anyway: bool) -> bool:
        """Whether the doctor holds this run back; says so."""
        errors = [] if anyway else preview.look(config).errors
        if errors:
            gr.Warning(escape(" · ".join(problem.message for problem in errors[:5]), quote=False), duration=20)
        return bool(errors)

    starting = {"api_visibility": "private", "trigger_mode": "once"}

    @start.click(inputs=[anyway, length, *form.inputs], outputs=[anyway, *live], **starting)
    def start_run(request: gr.Request, anyway: bool, length: str, *values: Any) -> list[Any]:
        return begin(trainer.start, request, anyway, length, *values)

    @queue.click(inputs=[anyway, length, *form.inputs], outputs=[anyway, *live], **starting)
    def queue_run(request: gr.Request, anyway: bool, length: str, *values: Any) -> list[Any]:
        return begin(trainer.queue, request, anyway, length, *values)

    def begin(
        carry_out: Callable[[RunConfig], Run], request: gr.Request, anyway: bool, length: str, *values: Any
    ) -> list[Any]:
        try:
            config = _lengthened(form.read(values), length)
            held = objections(config, anyway)
            if not held:
                carry_out(config)
        except UserError as error:
            raise tell(error) from None
        return [gr.Checkbox(False, visible=held), *_snapshot(store, trainer, Voice(request))]

    @resume.click(outputs=live, api_visibility="private", trigger_mode="once")
    def resume_run(request: gr.Request) -> list[Any]:
        try:
            if run := _shown_run(store):
                trainer.resume(run)
        except UserError as error:
            raise tell(error) from None
        return _snapshot(store, trainer, Voice(request))

    @up.click(inputs=waiting, outputs=live, queue=False, api_visibility="private")
    def move_up(request: gr.Request, run_id: str | None) -> list[Any]:
        if run_id:
            trainer.move_up(store.open(run_id))
        return _snapshot(store, trainer, Voice(request))

    @remove.click(inputs=waiting, outputs=live, queue=False, api_visibility="private")
    def take_out(request: gr.Request, run_id: str | None) -> list[Any]:
        if run_id:
            trainer.remove(store.open(run_id))
        return _snapshot(store, trainer, Voice(request))

    @stop.click(outputs=live, queue=False, api_visibility="private")
    def stop_run(request: gr.Request) -> list[Any]:
        if run := store.working():
            run.stop()
        return _snapshot(store, trainer, Voice(request))

    def show_plan(request: gr.Request, length: str, *values: Any) -> str:
        """The plan, or what is wrong with the form."""
        try:
            config = _lengthened(form.read(values), length)
            found = preview.look(config)
            return plan_html(plan_of(config, found.examples, found.model_config, this_device()), Voice(request))
        except UserError as error:
            return f"<p class='quiet'>{escape(str(error))}</p>"

    planning = {"api_visibility": "private", "show_progress": "hidden"}
    tab.select(show_plan, [length, *form.inputs], planned, **planning)
    typed = [box.blur for box in training if isinstance(box, gr.Textbox)]
    gr.on(typed, show_plan, [length, *form.inputs], planned, **planning)
    length.input(show_plan, [length, *form.inputs], planned, **planning)

    def use_preset(name: str) -> list[Any]:
        return [say(known[name].needs), *form.fill(known[name].config)]

    preset.input(use_preset, preset, [needs, *form.inputs], api_visibility="private").then(
        show_plan, [length, *form.inputs], planned, **planning
    )

    @show_yaml.click(inputs=form.inputs, outputs=yaml, api_visibility="private")
    def show_config(*values: Any) -> str:
        try:
            return form.read(values).to_yaml()
        except UserError as error:
            raise tell(error) from None

    def use_config(text: str) -> list[Any]:
        try:
            return form.fill(RunConfig.from_yaml(text))
        except UserError as error:
            raise tell(error) from None

    use_yaml.click(use_config, yaml, form.inputs, api_visibility="private").then(
        show_plan, [length, *form.inputs], planned, **planning
    )

    return to_chat


def _group(title: str, settings: Any, path: str, leave_out: tuple[str, ...] = ()) -> Fields:
    gr.Markdown(say(title), elem_classes="group")
    return fieldset(settings, path, leave_out)


def _lengthened(config: RunConfig, length: str) -> RunConfig:
    """The run as long as the person asked for."""
    training = config.training
    if length == "quick":
        few = config.evaluation.model_copy(update={"limit": min(8, config.evaluation.limit)})
        config = config.model_copy(update={"evaluation": few})
    change = {
        "quick": {"max_steps": 5, "eval_steps": 0.5},
        "standard": {},
        "thorough": {
            "num_train_epochs": training.num_train_epochs * 2,
            "max_steps": training.max_steps * 2 if training.max_steps > 0 else -1,
        },
    }[length]
    return config.model_copy(update={"training": training.model_copy(update=change)})


def is_eventful(store: RunStore) -> bool:
    """Whether a person who opens the page wants to see the run first: it works, or was interrupted."""
    run = _shown_run(store)
    return run is not None and run.state in (*WORKING, "queued", "interrupted")


def _shown_run(store: RunStore) -> Run | None:
    """The run at work, else the one that waits longest, else the newest."""
    return store.working() or next(iter(store.list()), None)


def _now(store: RunStore, trainer: BackgroundTrainer) -> tuple[Any, ...]:
    """What the live view is drawn from; as long as it stays the same, so does the view."""
    run = _shown_run(store)
    names = [waiting.run_id for waiting in trainer.waiting]
    return (run and (run.run_id, len(run.events()), run.state, run.stop_wanted), names)


def _snapshot(store: RunStore, trainer: BackgroundTrainer, voice: Voice) -> list[Any]:
    """What the live view shows now."""
    run = _shown_run(store)
    names = [waiting.run_id for waiting in trainer.waiting]
    line = [gr.Group(visible=bool(names)), gr.Dropdown(choices=names, value=next(iter(names), None))]
    hidden = gr.Button(visible=False)
    if run is None:
        empty = f"<div class='card empty'>{escape(voice('No run yet. Everything is filled in: press Start.'))}</div>"
        plot, on, off = gr.LinePlot(visible=False), gr.Button(interactive=True), gr.Button(interactive=False)
        return [empty, plot, "", "", "", on, off, hidden, hidden, hidden, *line]
    events, state = run.events(), run.state
    works = state in (*WORKING, "queued")
    ended, curve = state in ENDED, loss_curve(run)
    return [
        status_html(run, state, events, voice),
        gr.LinePlot(curve, visible=curve is not None, x_title=voice("step"), y_title=voice("Loss")),
        watched_html(events, voice),
        proof_html(run, voice) if ended else "",
        log_html(events),
        gr.Button(interactive=not works),
        gr.Button(interactive=works and not run.stop_wanted),
        gr.Button(visible=ended and (run.merged_dir.is_dir() or run.adapter_dir.is_dir())),
        gr.Button(visible=works),
        gr.Button(visible=ended and state != "done"),
        *line,
    ]
