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
from ftui.plan import Plan, plan_of
from ftui.runs import ENDED, WORKING, Event, Run, RunStore
from ftui.ui.fieldset import Fields, Form, fieldset, tell
from ftui.ui.language import Voice, say
from ftui.ui.preview import Preview

PHASES = {
    "queued": "Waiting to start",
    "preparing": "Preparing",
    "training": "Training",
    "evaluating": "Evaluating",
    "merging": "Merging",
    "done": "Done",
    "stopped": "Stopped",
    "failed": "Failed",
    "interrupted": "Interrupted",
}
LENGTHS = {"quick": "Quick check (5 steps)", "standard": "Standard", "thorough": "Thorough (twice as long)"}
CURVE_POINTS = 400
PROOF_ROWS = 12


def train_tab(
    first: RunConfig,
    store: RunStore,
    trainer: BackgroundTrainer,
    preview: Preview,
    before: Fields,
    studio: gr.Blocks,
    tab: gr.Tab,
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
                waiting = gr.Dropdown([], label=say("Waiting"), elem_id="waiting")
                with gr.Row():
                    up = gr.Button(say("Move up"), size="sm")
                    remove = gr.Button(say("Take out"), size="sm")
            with gr.Accordion(say("All settings"), open=False, elem_id="settings"):
                fields: Fields = {
                    **_group("Training", first.training, "training"),
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
                caption=say("Lower is better. Blue: rows it learns from; orange: rows it never sees."),
                visible=False,
                elem_id="plot",
            )
            watched = gr.HTML(elem_id="watched", padding=False)
            proof = gr.HTML(elem_id="proof", padding=False)
            with gr.Accordion(say("Log"), open=False):
                log = gr.HTML(elem_id="log")

    form = Form({**before, **fields})
    seen = gr.State("")
    timer = gr.Timer(1)
    live = [seen, status, plot, watched, proof, log, start, stop, to_chat, queue, resume, line, waiting]

    @gr.on(
        [studio.load, timer.tick],
        inputs=seen,
        outputs=live,
        queue=False,
        show_progress="hidden",
        api_visibility="private",
    )
    def show_run(seen: str, request: gr.Request) -> list[Any]:
        return _snapshot(store, trainer, seen, Voice(request))

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
        return [gr.Checkbox(False, visible=held), *_snapshot(store, trainer, "", Voice(request))]

    @resume.click(outputs=live, api_visibility="private", trigger_mode="once")
    def resume_run(request: gr.Request) -> list[Any]:
        try:
            if run := _shown_run(store):
                trainer.resume(run)
        except UserError as error:
            raise tell(error) from None
        return _snapshot(store, trainer, "", Voice(request))

    @up.click(inputs=waiting, outputs=live, queue=False, api_visibility="private")
    def move_up(request: gr.Request, run_id: str | None) -> list[Any]:
        if run_id:
            trainer.move_up(store.open(run_id))
        return _snapshot(store, trainer, "", Voice(request))

    @remove.click(inputs=waiting, outputs=live, queue=False, api_visibility="private")
    def take_out(request: gr.Request, run_id: str | None) -> list[Any]:
        if run_id:
            trainer.remove(store.open(run_id))
        return _snapshot(store, trainer, "", Voice(request))

    @stop.click(outputs=live, queue=False, api_visibility="private")
    def stop_run(request: gr.Request) -> list[Any]:
        if run := store.working():
            run.stop()
        return _snapshot(store, trainer, "", Voice(request))

    def show_plan(request: gr.Request, length: str, *values: Any) -> str:
        """The plan, or what is wrong with the form."""
        try:
            config = _lengthened(form.read(values), length)
            found = preview.look(config)
            return _plan(plan_of(config, found.examples, found.model_config, this_device()), Voice(request))
        except UserError as error:
            return f"<p class='quiet'>{escape(str(error))}</p>"

    planning = {"api_visibility": "private", "show_progress": "hidden"}
    tab.select(show_plan, [length, *form.inputs], planned, **planning)
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
    """The run at work, else the one that ended last: the newest that is not waiting in the queue."""
    return store.working() or next(iter(store.list()), None)


def _plan(plan: Plan, voice: Voice) -> str:
    """What the run will take, and whether it fits, with the basis of the estimate."""
    numbers = voice(
        "{steps} steps, about {time}, {memory} GB of memory, {disk} GB of disk",
        steps=voice.number(plan.steps),
        time=_duration(plan.seconds),
        memory=voice.number(plan.peak_memory_bytes / 1e9, 1),
        disk=voice.number(plan.disk_bytes / 1e9, 1),
    )
    mark = {"fits": "good", "tight": "warn", "does not fit": "bad"}[plan.verdict]
    advice = f"<p class='warn'>{escape(plan.advice)}</p>" if plan.advice else ""
    basis = f"<details><summary class='quiet'>{escape(voice('estimate'))}</summary><p class='quiet'>{escape(plan.basis)}</p></details>"
    return f"<div class='card plan'><p><b class='{mark}'>{escape(voice(plan.verdict))}</b> {escape(numbers)}</p>{advice}{basis}</div>"


def _snapshot(store: RunStore, trainer: BackgroundTrainer, seen: str, voice: Voice) -> list[Any]:
    """What the live view shows now; nothing is sent again that the page has already."""
    run = _shown_run(store)
    names = [waiting.run_id for waiting in trainer.waiting]
    events = run.events() if run else []
    now = f"{run.run_id}:{len(events)}:{run.state}:{run.stop_wanted}:{names}" if run else "none"
    if now == seen:
        return [gr.skip()] * 13
    same = seen.endswith(f":{names}")  # else a choice in the list would last until the next event only
    line = (
        [gr.skip(), gr.skip()]
        if same
        else [gr.Group(visible=bool(names)), gr.Dropdown(choices=names, value=next(iter(names), None))]
    )
    hidden = gr.Button(visible=False)
    if run is None:
        empty = f"<div class='card empty'>{escape(voice('No run yet. Everything is filled in: press Start.'))}</div>"
        plot, on, off = gr.LinePlot(visible=False), gr.Button(interactive=True), gr.Button(interactive=False)
        return [now, empty, plot, "", "", "", on, off, hidden, hidden, hidden, *line]
    state = run.state
    works = state in (*WORKING, "queued")
    ended = state in ENDED
    return [
        now,
        _status(run, state, events, voice),
        _plot(run, voice),
        _watched(events, voice),
        _proof(run, voice) if ended else "",
        _log(events),
        gr.Button(interactive=not works),
        gr.Button(interactive=works and not run.stop_wanted),
        gr.Button(visible=ended and (run.merged_dir.is_dir() or run.adapter_dir.is_dir())),
        gr.Button(visible=works),
        gr.Button(visible=ended and state != "done"),
        *line,
    ]


def _status(run: Run, state: str, events: list[Event], voice: Voice) -> str:
    """The phase in words, a bar, and the latest numbers as text."""
    measured = run.metrics()
    last = measured[-1] if measured else None
    sentence = voice.known(next((event.message for event in reversed(events) if event.type == "state"), ""))
    if state == "interrupted":
        sentence = voice("The process that worked on this run ended. What it saved is kept.")
    if run.stop_wanted and state in WORKING:
        sentence = voice("Training stops after this step; what was learned is kept.")
    facts, share = [], 0.0
    if last:
        share = last["step"] / max(last["steps"], 1)
        facts.append(voice("step {step} of {steps}", step=last["step"], steps=last["steps"]))
        if state == "training" and last["step"] < last["steps"]:
            facts.append(voice("{time} left (measured)", time=_duration(last["seconds_left"])))
        facts.append(voice("{rate} tokens/s", rate=voice.number(last["tokens_per_second"])))
        facts.append(voice("{gb} GB in use", gb=voice.number(last["memory"] / 1e9, 1)))
        for name, words in (("loss", "loss {loss}"), ("validation_loss", "validation {loss}")):
            value = next((data[name] for data in reversed(measured) if data.get(name) is not None), None)
            if value is not None:
                facts.append(voice(words, loss=voice.number(value, 3)))
    share = 1.0 if state == "done" else share
    if state == "done" and (compared := _planned_beside_actual(events, measured, voice)):
        facts.append(compared)
    bar = f"<progress max='1' value='{share:.3f}' aria-label='{escape(voice('Training'))}'></progress>"
    return (
        f"<div class='card status {state}'><p class='phase' role='status' aria-live='polite'><b>{escape(voice(PHASES[state]))}</b> "
        f"<span>{escape(sentence)}</span></p>{bar}<p class='numbers'>{' · '.join(map(escape, facts))}</p>"
        f"<p class='quiet'>{escape(run.run_id)} · {escape(run.base_model)}</p></div>"
    )


def _planned_beside_actual(events: list[Event], measured: list[dict[str, Any]], voice: Voice) -> str | None:
    plan = next((event.data["plan"] for event in events if "plan" in event.data), None)
    if not plan or not measured:
        return None
    return voice(
        "planned {time} and {memory} GB, took {actual_time} and {actual_memory} GB",
        time=_duration(plan["seconds"]),
        memory=voice.number(plan["peak_memory_bytes"] / 1e9, 1),
        actual_time=_duration(measured[-1]["seconds"]),
        actual_memory=voice.number(max(data["memory"] for data in measured) / 1e9, 1),
    )


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def _plot(run: Run, voice: Voice) -> gr.LinePlot:
    curve = _curve(run)
    return gr.LinePlot(curve, visible=curve is not None, x_title=voice("step"), y_title=voice("Loss"))


def _curve(run: Run) -> Any:
    """Both losses by step. LinePlot learns its colors from the first frame, so each series always has a row."""
    import pandas

    measured = run.metrics()
    points = []
    for series, name in (("training", "loss"), ("validation", "validation_loss")):
        found = [(data["step"], data[name], series) for data in measured if data.get(name) is not None]
        points += found[:: len(found) // CURVE_POINTS + 1]
    if len(points) < 2:
        return None
    points += [(points[0][0], None, series) for series in ("training", "validation")]
    return pandas.DataFrame(points, columns=["step", "loss", "series"])


def _watched(events: list[Event], voice: Voice) -> str:
    """What the model answered before training, and at the last two checks."""
    samples = [event.data for event in events if event.type == "sample"]
    if not samples:
        return ""
    steps = sorted({sample["step"] for sample in samples})
    columns = [steps[0], *steps[1:][-2:]]
    head = "".join(
        f"<th scope='col'>{escape(voice('before') if step == 0 else voice('step {step}', step=step))}</th>"
        for step in columns
    )
    body = ""
    for prompt in dict.fromkeys(sample["prompt"] for sample in samples):
        replies = {sample["step"]: sample["reply"] for sample in samples if sample["prompt"] == prompt}
        body += (
            f"<tr><th scope='row'>{_short(prompt, 160)}</th>"
            + "".join(f"<td>{_short(replies.get(step, ''), 220)}</td>" for step in columns)
            + "</tr>"
        )
    title, question = escape(voice("Watch it learn")), escape(voice("Question"))
    return (
        f"<div class='card'><h3>{title}</h3><table class='grid'><tr><th>{question}</th>{head}</tr>{body}</table></div>"
    )


def _proof(run: Run, voice: Voice) -> str:
    """Base beside tuned on held-out rows, and the merge compared with what was trained."""
    report, proof = run.read_json("report.json"), run.read_json("proof.json")
    if not report:
        return ""
    sentence = {
        "better": "The tuned model is better than the base on held-out rows.",
        "worse": "The tuned model is worse than the base on held-out rows.",
        "not better": "The tuned model is not shown to be better than the base.",
        "too few rows": "Too few held-out rows ({rows}) for a verdict; it takes 20.",
    }[report["verdict"]]
    base, tuned, difference = report["systems"]["zero_shot"], report["systems"]["tuned"], report["difference"]
    numbers = ""
    for name, key, decimals in (("Loss", "loss", 3), ("exact matches", "exact_match", 0)):
        if base[key] is not None:
            cells = [
                f"{value:.0%}" if key == "exact_match" else voice.number(value, decimals)
                for value in (base[key], tuned[key])
            ]
            numbers += f"<tr><th scope='row'>{escape(voice(name))}</th><td>{cells[0]}</td><td>{cells[1]}</td></tr>"
    table = f"<table class='grid small'><tr><th></th><th>{escape(voice('base'))}</th><th>{escape(voice('tuned'))}</th></tr>{numbers}</table>"
    basis = voice(
        "{rows} rows kept out of training, greedy decoding, both models in the precision of training.",
        rows=report["rows"],
    )
    spread = voice(
        "Difference {mean}, 95 % interval {low} to {high}.",
        **{key: f"{difference[key]:+.3f}" for key in ("mean", "low", "high")},
    )
    merged = _merge_sentence(proof, voice) if proof else ""
    head = "".join(f"<th scope='col'>{escape(voice(name))}</th>" for name in ("Question", "Expected", "Base", "Tuned"))
    rows = "".join(_proof_row(example) for example in report["examples"][:PROOF_ROWS])
    return (
        f"<div class='card'><h3>{escape(voice('Base beside tuned'))}</h3><p class='verdict'>{escape(voice(sentence, rows=report['rows']))}</p>{table}"
        f"<p class='quiet'>{escape(basis)} {escape(spread)}</p><p class='quiet'>{escape(merged)}</p>"
        f"<table class='grid'><tr>{head}</tr>{rows}</table></div>"
    )


def _merge_sentence(proof: dict[str, Any], voice: Voice) -> str:
    return voice(
        "Merged into the {weights} weights and compared: {same} of {tokens} held-out tokens are the same; loss {before} with the adapter, {after} merged.",
        weights=voice(proof["base_weights"]),
        same=f"{proof['top1_agreement']:.1%}",
        tokens=proof["tokens"],
        before=voice.number(proof["validation_loss_adapter"], 4),
        after=voice.number(proof["validation_loss_merged"], 4),
    )


def _proof_row(example: dict[str, Any]) -> str:
    right = "right" if example["tuned"].strip() == example["expected"].strip() else "wrong"
    cells = f"<td>{_short(example['expected'], 200)}</td><td>{_short(example['zero_shot'], 200)}</td><td class='{right}'>{_short(example['tuned'], 200)}</td>"
    return f"<tr><th scope='row'>{_short(example['prompt'], 160)}</th>{cells}</tr>"


def _log(events: list[Event]) -> str:
    lines = "".join(
        f"<p class='{event.level}'><time>{escape(event.time[11:19])}</time> {escape(event.message)}</p>"
        for event in events
        if event.type in ("state", "message", "resumed")
    )
    return f"<div class='log'>{lines}</div>"


def _short(text: str, length: int) -> str:
    text = text if len(text) <= length else text[: length - 1] + "…"
    return escape(text)
