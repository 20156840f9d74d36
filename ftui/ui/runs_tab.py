"""7 Runs: every run there is: found, looked at, compared, gone on with, begun again, thrown away and brought back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import gradio as gr

from ftui.background import BackgroundTrainer
from ftui.errors import UserError
from ftui.history import History, line_of
from ftui.loop import report_name
from ftui.runs import ENDED, WORKING, Run, RunStore
from ftui.train import checkpoints_of
from ftui.ui.chat_tab import AT_STEP, ChatDoor
from ftui.ui.events import tell
from ftui.ui.fieldset import Form
from ftui.ui.language import Voice, say
from ftui.ui.live import log_html, loss_curve, proof_html, report_html, run_title, status_html, watched_html
from ftui.ui.runs_table import (
    ACTING,
    CHOOSING,
    GROUPS,
    LETTERS,
    checkpoints_html,
    compared_curves,
    differences_html,
    matching,
    runs_html,
    size_of,
)

QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}


def runs_tab(
    store: RunStore,
    trainer: BackgroundTrainer,
    form: Form,
    chat: ChatDoor,
    studio: gr.Blocks,
    tabs: gr.Tabs,
    tab: gr.Tab,
) -> gr.Timer:
    """Returns the timer of the list, which runs while this tab is shown."""
    history = History(store)
    with gr.Row(equal_height=True):
        search = gr.Textbox(
            label=say("Search"), placeholder=say("Data, base model, state or id"), max_lines=1, elem_id="find_run"
        )
        group = gr.Dropdown(
            [(say(label), key) for key, (label, _) in GROUPS.items()],
            value="all",
            label=say("Show runs"),
            elem_id="group",
        )
    listing = gr.HTML(elem_id="runs", js_on_load=CHOOSING, apply_default_css=False, padding=False)
    hint = gr.Markdown(say("Tick two or three runs to compare them."), elem_classes="quiet")
    with gr.Column(visible=False, elem_id="compared") as compared:
        curves = _plot("compared_plot", dict(zip(LETTERS, ("#4f46e5", "#ea580c", "#0d9488"), strict=True)))
        differences = gr.HTML(padding=False)
    with gr.Column(visible=False, elem_id="selected") as selected:
        status = gr.HTML(padding=False, elem_id="run_status")
        with gr.Row(elem_id="run_actions"):
            open_chat = gr.Button(say("Chat"), variant="primary", size="sm", min_width=110, elem_id="run_chat")
            resume = gr.Button(say("Resume"), variant="primary", size="sm", min_width=110, elem_id="run_resume")
            stop = gr.Button(say("Stop and keep"), variant="stop", size="sm", min_width=110, elem_id="run_stop")
            discard = gr.Button(say("Discard"), size="sm", min_width=110, elem_id="run_discard")
            clone = gr.Button(say("Clone settings"), size="sm", min_width=110, elem_id="run_clone")
            begin = gr.Button(say("New run from its adapter"), size="sm", min_width=110, elem_id="run_begin")
            evaluate = gr.Button(say("Evaluate again"), size="sm", min_width=110, elem_id="run_evaluate")
            delete = gr.Button(say("Delete"), size="sm", min_width=110, elem_id="run_delete")
            restore = gr.Button(say("Restore"), variant="primary", size="sm", min_width=110, elem_id="run_restore")
            empty = gr.Button(say("Empty trash"), variant="stop", size="sm", min_width=110, elem_id="run_empty")
        with gr.Column(visible=False, elem_id="ask") as ask:
            question = gr.Markdown(elem_id="question")
            with gr.Row():
                yes = gr.Button(say("Yes, do it"), variant="stop", size="sm", elem_id="yes")
                no = gr.Button(say("No, leave it"), size="sm", elem_id="no")
        with gr.Tabs(elem_id="run_parts", overflow_behavior="wrap"):
            with gr.Tab(say("Curves")):
                plot = _plot("run_plot", {"training": "#4f46e5", "validation": "#ea580c"})
                watched = gr.HTML(padding=False)
            with gr.Tab(say("Report")):
                report = gr.HTML(padding=False, elem_id="run_report")
            with gr.Tab(say("Checkpoints")):
                checkpoints = gr.HTML(js_on_load=ACTING, apply_default_css=False, padding=False, elem_id="checkpoints")
            with gr.Tab(say("Settings")):
                settings = gr.Code(language="yaml", interactive=False, elem_id="run_config")
            with gr.Tab(say("Log")):
                log = gr.HTML(padding=False, elem_id="run_log")

    # Which run is looked at stays with the browser; the secret only keeps its form over a restart.
    chosen = gr.BrowserState("", storage_key="ftui-run", secret="ftui")
    ticked, wish, seen = gr.State([]), gr.State(""), gr.State("")
    timer = gr.Timer(2, active=False)
    acts = [open_chat, resume, stop, discard, clone, begin, evaluate, delete, restore, empty]
    detail = [selected, status, plot, watched, report, checkpoints, settings, log, *acts]
    view = [seen, listing, hint, compared, curves, differences, *detail]
    asked = [seen, chosen, ticked, group, search]

    def show_runs(request: gr.Request, *asked: Any) -> list[Any]:
        return _snapshot(store, history, Voice(request), *asked)

    def show_anew(request: gr.Request, *asked: Any) -> list[Any]:
        return show_runs(request, "", *asked)

    latest = {**QUIET, "trigger_mode": "always_last"}  # quick clicks: what was clicked last is what is shown
    anew = {"fn": show_anew, "inputs": asked[1:], "outputs": view, **latest}
    timer.tick(show_runs, asked, view, **QUIET)
    gr.on([studio.load, search.change, group.input], **anew)
    tab.select(**anew)

    def choose(event: gr.EventData) -> list[Any]:
        return [str(event.run), "", gr.Column(visible=False)]

    def tick(event: gr.EventData) -> list[str]:
        names, last = [str(name) for name in event.runs], str(event.last)
        return names if len(names) <= len(LETTERS) else [*[name for name in names if name != last][:2], last]

    listing.click(choose, outputs=[chosen, wish, ask], **latest).then(**anew)
    listing.select(tick, outputs=ticked, **latest).then(**anew)

    def carried_out(act: Callable[[Run], object]) -> Callable[..., None]:
        """A handler that does something with the chosen run and tells what stands against it."""

        def handler(run_id: str, ticked: list[str], group: str, search: str) -> None:
            try:
                if run := _chosen(store, history, run_id, group, search):
                    act(run)
            except UserError as error:
                raise tell(error) from None

        return handler

    for button, act in ((resume, trainer.resume), (stop, Run.stop), (evaluate, trainer.evaluate)):
        button.click(carried_out(act), asked[1:], **QUIET).success(**anew)
    restore.click(carried_out(lambda run: store.restore(run.run_id)), asked[1:], **QUIET).success(**anew)

    # what asks first

    def asking(what: str) -> Callable[..., list[Any]]:
        def handler(request: gr.Request, run_id: str, ticked: list[str], group: str, search: str) -> list[Any]:
            run = _chosen(store, history, run_id, group, search)
            size = sum(line.bytes for line in history.trash())
            return _question(what, run, size, Voice(request)) if run else _no_question()

        return handler

    asks = [wish, ask, question]
    for button, what in ((discard, "discard"), (delete, "delete"), (empty, "empty")):
        button.click(asking(what), asked[1:], asks, **QUIET)

    @checkpoints.rewind(inputs=asked[1:], outputs=asks, **QUIET)
    def ask_to_go_back(request: gr.Request, event: gr.EventData, *asked: Any) -> list[Any]:
        return asking(f"rewind {int(event.step)}")(request, *asked)

    def do_it(wish: str) -> list[Any]:
        """What was asked, with the run that it was asked about, whatever the page looks at by now."""
        what, run_id, step = (*wish.split(), "", "", "")[:3]
        try:
            if what == "empty":
                store.empty_trash()
            elif what == "rewind":
                trainer.resume(store.open(run_id), int(step))
            elif what:
                trainer.discard(store.open(run_id))
        except UserError as error:
            raise tell(error) from None
        return _no_question()

    yes.click(do_it, wish, asks, **QUIET).then(**anew)
    no.click(_no_question, outputs=asks, **QUIET)

    # what leads to other tabs

    @checkpoints.evaluate(inputs=asked[1:], **QUIET)
    def evaluate_checkpoint(event: gr.EventData, *asked: Any) -> None:
        carried_out(lambda run: trainer.evaluate(run, int(event.step)))(*asked)

    def chatting(request: gr.Request, which: str, *asked: Any) -> list[Any]:
        run = _chosen(store, history, asked[0], *asked[2:])
        return [gr.Tabs(selected="chat"), *chat.open(request, run.run_id if run else "", which)]

    @open_chat.click(inputs=asked[1:], outputs=[tabs, *chat.outputs], **QUIET)
    def chat_with_run(request: gr.Request, *asked: Any) -> list[Any]:
        return chatting(request, "", *asked)

    @checkpoints.chat(inputs=asked[1:], outputs=[tabs, *chat.outputs], **QUIET)
    def chat_with_checkpoint(request: gr.Request, event: gr.EventData, *asked: Any) -> list[Any]:
        return chatting(request, f"{AT_STEP}{int(event.step)}", *asked)

    def filled(adapter: str | None, *asked: Any) -> list[Any]:
        """The form with the settings of the chosen run; `adapter` comes after its name: "", "@12", or None for a new one."""
        run = _chosen(store, history, asked[0], *asked[2:])
        try:
            if run is None:
                raise UserError("There is no run to take the settings from.")
            start = run.config.adapter if adapter is None else f"{run.run_id}{adapter}"
            return [gr.Tabs(selected="train"), *form.fill(run.config.model_copy(update={"adapter": start}))]
        except UserError as error:
            raise tell(error) from None

    leaving = {"inputs": asked[1:], "outputs": [tabs, *form.inputs], **QUIET}

    @clone.click(**leaving)
    def clone_run(*asked: Any) -> list[Any]:
        return filled(None, *asked)

    @begin.click(**leaving)
    def begin_from_adapter(*asked: Any) -> list[Any]:
        return filled("", *asked)

    @checkpoints.begin(**leaving)
    def begin_from_checkpoint(event: gr.EventData, *asked: Any) -> list[Any]:
        return filled(f"@{int(event.step)}", *asked)

    return timer


def _plot(elem_id: str, colors: dict[str, str]) -> gr.LinePlot:
    return gr.LinePlot(
        None,
        x="step",
        y="loss",
        color="series",
        color_map=colors,
        x_title=" ",
        y_title=" ",
        color_title=" ",
        height=320,
        show_label=False,
        visible=False,
        elem_id=elem_id,
    )


def _chosen(store: RunStore, history: History, run_id: str, group: str, search: str) -> Run | None:
    """The run that is looked at: the chosen one while it is there, else the one at work, else the first of the list."""
    runs = store.trashed() if group == "trash" else store.list()
    named = next((run for run in runs if run.run_id == run_id), None)
    if named or group == "trash":
        return named or next(iter(runs), None)
    shown = {line.run for line in matching(history.lines(), group, search)}
    first = next((run for run in runs if run.run_id in shown), None)
    return first if group != "all" or search else store.working() or first


def _snapshot(
    store: RunStore,
    history: History,
    voice: Voice,
    seen: str,
    run_id: str,
    ticked: list[str],
    group: str,
    search: str,
) -> list[Any]:
    """What the tab shows now; nothing is sent again that the page has already."""
    lines = matching(history.trash() if group == "trash" else history.lines(), group, search or "")
    run = _chosen(store, history, run_id or "", group, search or "")
    listed = repr((lines, run and run.run_id, ticked))
    detailed = repr((run and [run.path, len(run.events()), run.state, run.is_held, run.stop_wanted], group))
    now = f"{hash(listed)} {hash(detailed)}"
    old_list, _, old_detail = seen.partition(" ")
    same_list, same_detail = now.split()[0] == old_list, now.split()[1] == old_detail
    table = [gr.skip()] * 5 if same_list else _list(store, lines, run, ticked, group, search, voice)
    detail = [gr.skip()] * 18 if same_detail else _detail(run, group == "trash", voice)
    return [now, *table, *detail]


def _list(
    store: RunStore, lines: list[Any], run: Run | None, ticked: Sequence[str], group: str, search: str, voice: Voice
) -> list[Any]:
    """The list, its hint, and the comparison of the runs that are ticked and still there."""
    nothing = "The trash is empty." if group == "trash" else "No run yet. Start one in the Train tab."
    if search or group not in ("all", "trash"):
        nothing = "No run like that."
    there = {line.run: line for line in lines}
    picked = [name for name in ticked if name in there and group != "trash"]
    table = runs_html(lines, run.run_id if run else None, None if group == "trash" else picked, voice(nothing), voice)
    hint = gr.Markdown(visible=len(lines) > 1 and len(picked) < 2 and group != "trash")
    if len(picked) < 2:
        return [table, hint, gr.Column(visible=False), gr.LinePlot(visible=False), ""]
    runs = [store.open(name) for name in picked]
    curves = compared_curves(runs)
    plot = gr.LinePlot(curves, visible=curves is not None, x_title=voice("step"), y_title=voice("Validation loss"))
    return [table, hint, gr.Column(visible=True), plot, differences_html([there[name] for name in picked], runs, voice)]


def _detail(run: Run | None, in_trash: bool, voice: Voice) -> list[Any]:
    """Everything about one run, and the buttons for what can be done with it now."""
    if run is None:
        return [gr.Column(visible=False), "", gr.LinePlot(visible=False), *[""] * 5, *[gr.Button(visible=False)] * 10]
    state, events, curve = run.state, run.events(), loss_curve(run)
    found = checkpoints_of(run)
    ended, waits = state in ENDED and not run.is_held, state == "queued"
    can = {
        "chat": ended and (run.adapter_dir.is_dir() or bool(found)),
        "resume": ended and state != "done",
        "stop": (state in WORKING or run.is_held) and not run.stop_wanted,
        "discard": state in WORKING or waits,
        "clone": run.has_config,
        "begin": ended and run.adapter_dir.is_dir(),
        "evaluate": ended and run.adapter_dir.is_dir(),
        "delete": ended,
    }
    buttons = [gr.Button(visible=shown and not in_trash) for shown in can.values()]
    busy = voice("It is being compared or merged; the log says how far it is.")
    note = f"<p class='warn' role='status'>{escape(busy)}</p>" if state in ENDED and run.is_held else ""
    return [
        gr.Column(visible=True),
        f"<h2>{escape(run_title(run, voice))}</h2>{note}{status_html(run, state, events, voice)}",
        gr.LinePlot(curve, visible=curve is not None, x_title=voice("step"), y_title=voice("Loss")),
        watched_html(events, voice),
        _reports(run, voice)
        or f"<p class='quiet'>{escape(voice('No report yet. It is made when a run is done.'))}</p>",
        checkpoints_html(run, found, not in_trash, voice),
        run.config.to_yaml() if run.has_config else "",
        log_html(events, voice),
        *buttons,
        gr.Button(visible=in_trash),
        gr.Button(visible=in_trash),
    ]


def _reports(run: Run, voice: Voice) -> str:
    """The report of the run, then those of its checkpoints."""
    found = proof_html(run, voice)
    for step in sorted(int(path.stem.rpartition("-")[2]) for path in run.path.glob("report-step-*.json")):
        if compared := run.read_json(f"{report_name(step)}.json"):
            title = voice("Base beside the checkpoint of step {step}", step=step)
            found += report_html(compared, title, voice)
    return found


def _question(what: str, run: Run, trash_size: int, voice: Voice) -> list[Any]:
    """What is asked before something goes, and the wish that a yes carries out."""
    verb, _, step = what.partition(" ")
    sentence = {
        "discard": "Stop {run} and throw it away? It goes to the trash, whence it can be restored.",
        "delete": "Move {run} to the trash ({size})? It can be restored from there.",
        "empty": "Delete everything in the trash for good ({trash})? This cannot be undone.",
        "rewind": "Continue {run} from step {step}? What was learned after it is gone.",
    }[verb]
    size = size_of(line_of(run).bytes, voice)
    title = escape(run_title(run, voice))
    text = voice(sentence, run=f"**{title}**", size=size, trash=size_of(trash_size, voice), step=step)
    return [f"{verb} {run.run_id} {step}", gr.Column(visible=True), text]


def _no_question() -> list[Any]:
    return ["", gr.Column(visible=False), ""]
