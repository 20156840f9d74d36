"""Live: the parts of the tab that follow the runs. They show the run's folder, so every browser sees the same."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from datetime import datetime
from typing import Any, NamedTuple, Protocol

import gradio as gr

from ftui.background import BackgroundTrainer
from ftui.runs import ENDED, WORKING, Event, Run, RunStore
from ftui.ui.events import QUIET
from ftui.ui.language import Voice
from ftui.ui.page import Page

GRAIN = 2.0  # seconds: the coarsest that a file's time is told in


class Now(NamedTuple):
    """What is shown of the runs.

    `waiting`: the next one first; `rests`: whether they wait for a person's wish; `before`: the one that ended while the
    shown one waited.
    """

    run: Run | None
    waiting: list[Run]
    rests: bool
    before: Run | None


class Part(Protocol):
    """Components that are drawn anew together, and how they look now, in the same order."""

    outputs: list[gr.components.Component | gr.blocks.BlockContext]

    def show(self, now: Now, voice: Voice) -> list[Any]: ...


class Live:
    """`anew`: an event that draws all parts again."""

    def __init__(self, trainer: BackgroundTrainer, *parts: Part) -> None:
        self.trainer, self.parts = trainer, parts
        self.outputs = [output for part in parts for output in part.outputs]

        def show_run(request: gr.Request) -> list[Any]:
            return self.show(Voice(request))

        self.anew: dict[str, Any] = {"fn": show_run, "outputs": self.outputs, **QUIET}

    @property
    def now(self) -> Now:
        run, trainer = shown_run(self.trainer), self.trainer
        return Now(run, trainer.waiting, trainer.rests, ended_before(run, trainer.store) if run else None)

    def show(self, voice: Voice) -> list[Any]:
        """What all parts show now: the end of every event that changes a run."""
        now = self.now
        return [value for part in self.parts for value in part.show(now, voice)]

    def follow(self, page: Page) -> None:
        """Drawn with the page, and then by its pulse."""
        page.pulse.watch(self.outputs, self._mark, self.show)
        page.studio.load(**self.anew)

    def _mark(self) -> Hashable:
        """As long as it stays the same, so does what is shown."""
        run, waiting, rests = shown_run(self.trainer), self.trainer.waiting, self.trainer.rests
        names = tuple(each.run_id for each in waiting)
        return (run and (run.run_id, len(run.events()), run.state, run.stop_wanted, run.discarding), names, rests)


def shown_run(trainer: BackgroundTrainer) -> Run | None:
    """The run at work, else the newest that does not wait; before a queue that rests, the one that was interrupted."""
    waiting = trainer.waiting
    if working := trainer.at_work:
        return working
    begun = [run for run in trainer.store.list() if run not in waiting]
    interrupted = (run for run in begun if run.state == "interrupted") if waiting else iter(())
    return next(interrupted, next(iter([*begun, *waiting]), None))


def ended_before(run: Run, store: RunStore) -> Run | None:
    """The last run that ended while this one waited: its verdict is news. None once this one has ended too."""
    if run.state in ENDED:
        return None
    since = _last_time(run.events(), ("queued",))
    lately = datetime.fromisoformat(since).timestamp() - GRAIN if since else 0.0
    news = [each for each in store.list() if each.written >= lately]  # no other is read, however many there are
    ended = {_last_time(each.tail(), ENDED): each for each in news if each.written_state in ENDED}
    last = max(ended, default="")
    return ended[last] if last > since else None


def _last_time(events: list[Event], states: Sequence[str]) -> str:
    """When one of these states was last written; nothing where none was."""
    return next((event.time for event in reversed(events) if event.data.get("state") in states), "")


def is_eventful(trainer: BackgroundTrainer) -> bool:
    """Whether a person who opens the page wants to see the Train tab first: a run works or was interrupted, or some wait."""
    run = shown_run(trainer)
    return bool(trainer.waiting) or run is not None and run.state in (*WORKING, "queued", "interrupted")
