"""The estimate: what the run will take, before the click, and the rehearsal that measures it."""

from __future__ import annotations

from html import escape
from typing import Any

import gradio as gr

from ftui.background import BackgroundTrainer, Rehearsal
from ftui.device import disk_free, this_device
from ftui.errors import UserError
from ftui.plan import Plan, plan_of
from ftui.ui.draft import Draft
from ftui.ui.events import LATEST, ONCE, PRIVATE, QUIET, UNSEEN, telling
from ftui.ui.language import Voice, say
from ftui.ui.preview import Preview
from ftui.ui.supervision import error_html


class Estimate:
    def __init__(self, trainer: BackgroundTrainer, preview: Preview) -> None:
        self.trainer, self.preview = trainer, preview
        self.planned = gr.HTML(elem_id="plan", padding=False)
        self.rehearse = gr.Button(say("Rehearse: measure it in a few steps"), size="sm", elem_id="rehearse")

    def measure(self, draft: Draft) -> None:
        """Rehearses when asked, and shows what the rehearsal says until it has ended."""
        said = gr.State("")  # by the rehearsal that this page asked for; empty once it has ended
        asking = gr.Timer(1, active=False)  # only while the rehearsal that this page asked for goes on
        rehearsed = [self.planned, self.rehearse, said, asking]

        @self.rehearse.click(inputs=draft.inputs, outputs=rehearsed, **PRIVATE, **ONCE)
        def rehearse_run(request: gr.Request, *values: Any) -> list[Any]:
            with telling():
                config = draft.read(values)
                found = self.preview.look(config)
                return self._rehearsal(self.trainer.rehearse(config, found.encoding, found.examples), Voice(request))

        @asking.tick(inputs=said, outputs=rehearsed, **QUIET)
        def show_rehearsal(said: str, request: gr.Request) -> list[Any]:
            rehearsal = self.trainer.rehearsal
            if not said or rehearsal is None or (rehearsal.is_going and rehearsal.said == said):
                return [gr.skip() for _ in rehearsed]
            return self._rehearsal(rehearsal, Voice(request))

    def follow(self, draft: Draft, fills: list[gr.events.Dependency], tab: gr.Tab) -> None:
        """Shows the plan of the draft, whenever it was filled in or something it depends on was written."""

        def show_plan(request: gr.Request, *values: Any) -> str:
            """The plan, or what is wrong with the form."""
            try:
                config = draft.read(values)
                found, rehearsed = self.preview.look(config), self.trainer.rehearsed(config)
                plan = rehearsed or plan_of(config, found.examples, found.model_config, this_device())
                return plan_html(plan, self._disk, Voice(request), config.adapter)
            except UserError as error:
                return error_html(error, Voice(request))

        shows_plan = (show_plan, draft.inputs, self.planned)
        boxes = draft.form.by_path.items()
        typed = [box.blur for path, box in boxes if path.startswith("training.") and isinstance(box, gr.Textbox)]
        for filled in fills:
            filled.then(*shows_plan, **UNSEEN)
        gr.on([tab.select, draft.length.input, *typed], *shows_plan, **UNSEEN, **LATEST)

    def _rehearsal(self, rehearsal: Rehearsal, voice: Voice) -> list[Any]:
        """What a rehearsal says, or the plan that it found; the button; and the sentence, while it goes on."""
        going = rehearsal.is_going
        if rehearsal.plan and not going:
            planned = plan_html(rehearsal.plan, self._disk, voice, rehearsal.config.adapter)
            return [planned, gr.Button(interactive=True), "", gr.Timer(active=False)]
        sentence = f"<div class='card plan'><p role='status'>{escape(voice.known(rehearsal.said))}</p></div>"
        return [sentence, gr.Button(interactive=not going), rehearsal.said if going else "", gr.Timer(active=going)]

    @property
    def _disk(self) -> int:
        return disk_free(self.trainer.store.folder)


def plan_html(plan: Plan, disk: int, voice: Voice, adapter: str | None = None) -> str:
    """What the run will take, and whether it fits, with the basis of the estimate and the adapter it starts from.

    `disk`: bytes that are free in the folder of runs.
    """
    numbers = voice(
        "{steps} steps, about {time}, {memory} GB of memory, {disk} GB of disk",
        steps=voice.number(plan.steps),
        time=voice.duration(plan.seconds),
        memory=voice.number(plan.peak_memory_bytes / 1e9, 1),
        disk=voice.number(plan.disk_bytes / 1e9, 1),
    )
    if plan.cost is not None:
        numbers += ", " + voice("about ${cost}", cost=voice.number(plan.cost, 2))
    mark = {"fits": "good", "tight": "warn", "does not fit": "bad"}[plan.verdict]
    advice = "".join(
        f"<p class='warn'>{escape(voice.known(said))}</p>" for said in (plan.advice, plan.disk_problem(disk)) if said
    )
    start = f"<p>{escape(voice('Starts from the adapter of {name}.', name=adapter))}</p>" if adapter else ""
    tip = f"<p class='quiet'>{escape(voice.known(plan.tip))}</p>" if plan.tip else ""
    lines = "".join(f"<p class='quiet'>{escape(line)}</p>" for line in _plan_lines(plan, voice))
    summary = escape(voice("measured in a rehearsal") if plan.rehearsed else voice("estimate"))
    return (
        f"<div class='card plan'><p><b class='{mark}'>{escape(voice(plan.verdict))}</b> {escape(numbers)}</p>{start}{advice}{tip}"
        f"<details><summary class='quiet'>{summary}</summary>{lines}</details></div>"
    )


def _plan_lines(plan: Plan, voice: Voice) -> list[str]:
    """Time and memory by part, how the steps are carried out, and what all that rests on."""
    times = [f"{voice(part)} {voice.duration(seconds)}" for part, seconds in plan.times.items()]
    memory = [
        f"{voice(part)} {voice.number(size / 1e9, 2)} GB" for part, size in plan.memory.items() if size >= 5_000_000
    ]
    passes = voice(
        "Passes of up to {tokens} tokens; {recomputed} of {layers} layers recompute their activations.",
        tokens=voice.number(plan.choice.tokens),
        recomputed=plan.choice.recomputed,
        layers=plan.choice.layers,
    )
    return [" · ".join(times), " · ".join(memory), passes, voice.known(plan.basis)]
