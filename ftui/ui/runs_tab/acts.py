"""What is done with the run that is looked at: at once, or after a question."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from ftui.background import BackgroundTrainer
from ftui.runs import Run
from ftui.ui.events import QUIET, UNSEEN, telling
from ftui.ui.language import Voice
from ftui.ui.runs_tab.browsing import Browsing
from ftui.ui.runs_tab.shelf import Asked


def act_at_once(browsing: Browsing, trainer: BackgroundTrainer) -> None:
    buttons, shelf = browsing.detail.actions, browsing.shelf

    def carried_out(act: Callable[[Run], object]) -> Callable[..., None]:
        def handler(*asked: Any) -> None:
            with telling():
                if run := shelf.chosen(Asked(*asked)):
                    act(run)

        return handler

    acts: list[tuple[gr.Button, Callable[[Run], object]]] = [
        (buttons.resume, trainer.resume),
        (buttons.stop, Run.stop),
        (buttons.evaluate, trainer.evaluate),
        (buttons.merge, trainer.merge),
        (buttons.restore, trainer.restore),
    ]
    for button, act in acts:
        button.click(carried_out(act), browsing.asked, **UNSEEN).success(**browsing.anew)

    @browsing.detail.checkpoints.evaluate(inputs=browsing.asked, **UNSEEN)
    def evaluate_checkpoint(event: gr.EventData, *asked: Any) -> None:
        carried_out(lambda run: trainer.evaluate(run, int(event.step)))(*asked)


def act_when_answered(browsing: Browsing) -> None:
    """Whatever throws something away."""
    buttons, question, shelf = browsing.detail.actions, browsing.detail.question, browsing.shelf

    def asking(verb: str, step: int | None = None) -> Callable[..., list[Any]]:
        def handler(request: gr.Request, *asked: Any) -> list[Any]:
            run = shelf.chosen(Asked(*asked))
            return question.ask(verb, run, Voice(request), step, shelf.trash_size()) if run else question.close()

        return handler

    for button, verb in ((buttons.discard, "discard"), (buttons.delete, "delete"), (buttons.empty, "empty")):
        button.click(asking(verb), browsing.asked, question.outputs, **QUIET)

    @browsing.detail.checkpoints.rewind(inputs=browsing.asked, outputs=question.outputs, **QUIET)
    def ask_to_go_back(request: gr.Request, event: gr.EventData, *asked: Any) -> list[Any]:
        return asking("rewind", int(event.step))(request, *asked)

    question.wire().then(**browsing.anew)
