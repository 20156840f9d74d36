"""3 Train: presets, settings, start, watch, stop. The live view reads the newest run's folder, so every browser sees the same."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from typing import Any

import gradio as gr

from ftui.background import BackgroundTrainer, Rehearsal
from ftui.config import LoraSettings, RunConfig, TrainingSettings, checked, presets
from ftui.device import this_device
from ftui.errors import UserError
from ftui.models import describe
from ftui.plan import plan_of
from ftui.runs import ENDED, WORKING, Run, RunStore
from ftui.ui.fieldset import Fields, Form, fieldset, remember, tell
from ftui.ui.language import Voice, say
from ftui.ui.live import log_html, loss_curve, plan_html, proof_html, run_title, status_html, watched_html
from ftui.ui.preview import Preview
from ftui.ui.pulse import Pulse
from ftui.ui.simple import LENGTHS, STRENGTH_PATHS, STRENGTHS, lengthened, settings_of, strength_of

GROUPS = {"Training": "training", "Adapter": "lora", "Quantization": "quantization", "Evaluation": "evaluation"}
OWN = ("shorten_rows", "watch_prompts")  # settings of the run itself


def train_tab(
    first: RunConfig,
    store: RunStore,
    trainer: BackgroundTrainer,
    preview: Preview,
    before: Fields,
    kept: gr.BrowserState,
    studio: gr.Blocks,
    tab: gr.Tab,
    pulse: Pulse,
) -> tuple[gr.Button, Form]:
    """Returns the button that leads to the chat, and the form.

    `before`: the inputs of the tabs before this one; `kept`: the form, in the browser.
    """
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
            strength = gr.Radio(
                [(say(label), key) for key, label in STRENGTHS.items()],
                value=strength_of(first.lora, first.training),
                label=say("How much it may change the model"),
                info=say("More learns more from the rows, and forgets more of what it could before."),
                elem_id="strength",
            )
            stands_for = gr.Markdown(_in_words(first.lora, first.training), elem_classes="quiet", elem_id="stands_for")
            planned = gr.HTML(elem_id="plan", padding=False)
            rehearse = gr.Button(say("Rehearse: measure it in a few steps"), size="sm", elem_id="rehearse")
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
                for title, section in GROUPS.items():
                    gr.Markdown(say(title), elem_classes="group")
                    for path, box in before.items():
                        if path.startswith(f"{section}."):
                            box.render()
                for path in OWN:
                    before[path].render()
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

    form = Form(before)
    strong = Form({path: before[path] for path in STRENGTH_PATHS})
    live = [status, plot, watched, proof, log, start, stop, to_chat, queue, resume, line, waiting]
    pulse.watch(live, lambda: _now(store, trainer), lambda voice: _snapshot(store, trainer, voice))

    @studio.load(outputs=live, queue=False, show_progress="hidden", api_visibility="private")
    def show_run(request: gr.Request) -> list[Any]:
        return _snapshot(store, trainer, Voice(request))

    def objections(config: RunConfig, anyway: bool, voice: Voice) -> bool:
        """Whether the doctor holds this run back; says so."""
        errors = [] if anyway else preview.look(config).errors
        if errors:
            said = " · ".join(voice.known(problem.message) for problem in errors[:5])
            gr.Warning(escape(said, quote=False), duration=20)
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
            config = lengthened(form.read(values), length)
            held = objections(config, anyway, Voice(request))
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
            config = lengthened(form.read(values), length)
            found = preview.look(config)
            plan = trainer.rehearsed(config) or plan_of(config, found.examples, found.model_config, this_device())
            return plan_html(plan, Voice(request), config.adapter)
        except UserError as error:
            return f"<p class='quiet'>{escape(Voice(request).known(str(error)))}</p>"

    planning = {"api_visibility": "private", "show_progress": "hidden"}
    typed = [box.blur for path, box in before.items() if path.startswith("training.") and isinstance(box, gr.Textbox)]

    said = gr.State("")  # by the rehearsal that this page asked for; empty once it has ended
    asking = gr.Timer(1, active=False)  # only while the rehearsal that this page asked for goes on
    rehearsed = [planned, rehearse, said, asking]

    @rehearse.click(inputs=[length, *form.inputs], outputs=rehearsed, **starting)
    def rehearse_run(request: gr.Request, length: str, *values: Any) -> list[Any]:
        try:
            config = lengthened(form.read(values), length)
            found = preview.look(config)
            return _rehearsal(trainer.rehearse(config, found.encoding, found.examples), Voice(request))
        except UserError as error:
            raise tell(error) from None

    @asking.tick(inputs=said, outputs=rehearsed, queue=False, show_progress="hidden", api_visibility="private")
    def show_rehearsal(said: str, request: gr.Request) -> list[Any]:
        rehearsal = trainer.rehearsal
        if not said or rehearsal is None or (rehearsal.is_going and rehearsal.said == said):
            return [gr.skip()] * 4
        return _rehearsal(rehearsal, Voice(request))

    def use_preset(name: str) -> list[Any]:
        return [say(known[name].needs), *form.fill(known[name].config)]

    chosen = preset.input(use_preset, preset, [needs, *form.inputs], api_visibility="private")

    instant = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}

    def change_strength(strength: str, base_model: str) -> list[Any]:
        if strength == "own":
            return [gr.skip() for _ in STRENGTH_PATHS]
        return strong.boxes(settings_of(strength, _parameters(base_model)))

    def show_strength(*values: Any) -> tuple[Any, str]:
        """The step that the settings are, and what it stands for."""
        try:
            nested = strong.nested(values)
            lora, training = checked(LoraSettings, nested["lora"]), checked(TrainingSettings, nested["training"])
        except UserError:  # half a number, while it is typed
            return "own", ""
        return strength_of(lora, training), _in_words(lora, training)

    changed = gr.on(
        [strength.input, before["base_model"].input],
        change_strength,
        [strength, before["base_model"]],
        strong.inputs,
        show_progress="hidden",
        api_visibility="private",
    )

    @show_yaml.click(inputs=[length, *form.inputs], outputs=yaml, api_visibility="private")
    def show_config(length: str, *values: Any) -> str:
        """What Start would carry out."""
        try:
            return lengthened(form.read(values), length).to_yaml()
        except UserError as error:
            raise tell(error) from None

    def use_config(text: str) -> list[Any]:
        try:
            return ["standard", *form.fill(RunConfig.from_yaml(text))]
        except UserError as error:
            raise tell(error) from None

    written = use_yaml.click(use_config, yaml, [length, *form.inputs], api_visibility="private")

    restored = remember({"preset": preset, "length": length, **before}, kept, studio)
    shows_strength = (show_strength, strong.inputs, [strength, stands_for])
    shows_plan = (show_plan, [length, *form.inputs], planned)
    for filled in (chosen, written, changed, restored):
        filled.then(*shows_strength, **instant)
    for filled in (chosen, written, changed):
        filled.then(*shows_plan, **planning)
    latest = {"trigger_mode": "always_last"}  # else a change is passed over while an older one is worked on
    gr.on([tab.select, *(box.blur for box in strong.inputs)], *shows_strength, **instant, **latest)
    gr.on([tab.select, length.input, *typed], *shows_plan, **planning, **latest)
    return to_chat, form


def settings(first: RunConfig) -> Fields:
    """The inputs under "All settings", to be drawn by the Train tab."""
    watch = gr.Textbox(
        "\n".join(first.watch_prompts),
        label=say("Watch prompts"),
        info=say("One a line, asked before training and at every check. Empty: three validation rows."),
        lines=3,
        render=False,
    )
    fields: Fields = {}
    for section in GROUPS.values():
        fields |= fieldset(getattr(first, section), section, render=False)
    others = [name for name in RunConfig.model_fields if name not in OWN or name == "watch_prompts"]
    return fields | fieldset(first, "", others, render=False) | {"watch_prompts": watch}


def _rehearsal(rehearsal: Rehearsal, voice: Voice) -> list[Any]:
    """What a rehearsal says, or the plan that it found; the button; and the sentence, while it goes on."""
    going = rehearsal.is_going
    if rehearsal.plan and not going:
        return [plan_html(rehearsal.plan, voice), gr.Button(interactive=True), "", gr.Timer(active=False)]
    sentence = f"<div class='card plan'><p role='status'>{escape(voice.known(rehearsal.said))}</p></div>"
    return [sentence, gr.Button(interactive=not going), rehearsal.said if going else "", gr.Timer(active=going)]


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
    queued = [(f"{place}. {run_title(each, voice)}", each.run_id) for place, each in enumerate(trainer.waiting, 1)]
    line = [gr.Group(visible=bool(names)), gr.Dropdown(choices=queued, value=next(iter(names), None))]
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
        log_html(events, voice),
        gr.Button(interactive=not works),
        gr.Button(interactive=works and not run.stop_wanted),
        gr.Button(visible=ended and (run.merged_dir.is_dir() or run.adapter_dir.is_dir())),
        gr.Button(visible=works),
        gr.Button(visible=ended and state != "done"),
        *line,
    ]
