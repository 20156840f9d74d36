"""The shelf: all runs there are, as a page asks to see them."""

from __future__ import annotations

from typing import NamedTuple

from ftui.history import History, RunLine
from ftui.runs import Run, RunStore
from ftui.ui.runs_table import matching


class Asked(NamedTuple):
    """What a page looks at, as its inputs say it. `ticked`: the runs to compare, by id; `group`: a key of GROUPS."""

    run_id: str
    ticked: list[str]
    group: str
    search: str

    @property
    def in_trash(self) -> bool:
        return self.group == "trash"


class Shelf:
    """All sessions share one: what it has read of a run, nobody reads again."""

    def __init__(self, store: RunStore) -> None:
        self.store, self._history = store, History(store)

    def lines(self, asked: Asked) -> list[RunLine]:
        lines = self._history.trash() if asked.in_trash else self._history.lines()
        return matching(lines, asked.group, asked.search or "")

    def chosen(self, asked: Asked) -> Run | None:
        """The run that is looked at: the chosen one while it is there, else the one at work, else the first of the list."""
        runs = self.store.trashed() if asked.in_trash else self.store.list()
        named = next((run for run in runs if run.run_id == asked.run_id), None)
        if named or asked.in_trash:
            return named or next(iter(runs), None)
        shown = {line.run for line in self.lines(asked)}
        first = next((run for run in runs if run.run_id in shown), None)
        return first if asked.group != "all" or asked.search else self.store.working() or first

    def trash_size(self) -> int:
        """In bytes."""
        return sum(line.bytes for line in self._history.trash())
