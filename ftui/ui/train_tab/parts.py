"""The parts of the tab that follow the runs. They show the run's folder, so every browser sees the same."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Protocol

import gradio as gr

from ftui.background import BackgroundTrainer
from ftui.ui.events import QUIET
from ftui.ui.language import Voice
from ftui.ui.page import Page
from ftui.ui.train_tab.now import Now, shown_run


class Part(Protocol):
    """Components that are drawn anew together, and how they look now, in the same order."""

    outputs: list[gr.components.Component | gr.blocks.BlockContext]

    def show(self, now: Now, voice: Voice) -> list[Any]: ...


class Parts:
    """`anew`: an event that draws all parts again."""

    def __init__(self, trainer: BackgroundTrainer, *parts: Part) -> None:
        self.trainer, self._parts = trainer, parts
        self.outputs = [output for part in parts for output in part.outputs]

        def show_run(request: gr.Request) -> list[Any]:
            return self.show(Voice(request))

        self.anew: dict[str, Any] = {"fn": show_run, "outputs": self.outputs, **QUIET}

    @property
    def now(self) -> Now:
        return Now.of(self.trainer)

    def show(self, voice: Voice) -> list[Any]:
        """What all parts show now: the end of every event that changes a run."""
        now = self.now
        return [value for part in self._parts for value in part.show(now, voice)]

    def follow(self, page: Page) -> None:
        """Drawn with the page, and then by its pulse."""
        page.pulse.watch(self.outputs, self._mark, self.show)
        page.studio.load(**self.anew)

    def _mark(self) -> Hashable:
        """As long as it stays the same, so does what is shown."""
        run, waiting, rests = shown_run(self.trainer), self.trainer.waiting, self.trainer.rests
        names = tuple(each.run_id for each in waiting)
        return (run and (run.run_id, len(run.events()), run.state, run.stop_wanted, run.discarding), names, rests)
