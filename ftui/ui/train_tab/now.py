"""What the Train tab shows of the runs now: which run, which ended before it, which wait. Knows no component."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from ftui.background import BackgroundTrainer
from ftui.runs import ENDED, WORKING, Event, Run, RunStore

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

    @classmethod
    def of(cls, trainer: BackgroundTrainer) -> Now:
        run = shown_run(trainer)
        return cls(run, trainer.waiting, trainer.rests, ended_before(run, trainer.store) if run else None)


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
