"""History: what a list says of every run, quickly, however many there are and however long they trained.

This file does not know what a run's work is; it reads the ends of the folders.
"""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from ftui.config import RunConfig
from ftui.runs import WORKING, Run, RunStore, folder_size


class RunLine(NamedTuple):
    """One run in a list. `created`: local time, ISO 8601; `loss` and `validation_loss`: of the adapter that was kept, else
    the last ones measured; `bytes`: on the disk."""

    run: str
    state: str
    created: str
    base_model: str
    data: str
    step: int
    steps: int
    loss: float | None
    validation_loss: float | None
    verdict: str | None
    bytes: int


class History:
    """The lines of all runs. A run is read again only when its events or its report have changed."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._lines: dict[str, tuple[object, RunLine]] = {}

    def lines(self) -> list[RunLine]:
        """All runs, the newest first."""
        return [self._line(run) for run in self._store.list()]

    def trash(self) -> list[RunLine]:
        """The runs in the trash, the newest first."""
        return [self._line(run) for run in self._store.trashed()]

    def _line(self, run: Run) -> RunLine:
        path = os.fspath(run.path)
        stamp = _stamp(f"{path}/events.jsonl"), _stamp(f"{path}/report.json")
        known = self._lines.get(path)
        if known is None or known[0] != stamp:
            known = self._lines[path] = (stamp, line_of(run))
        line = known[1]
        # A state changes without a write when its process dies.
        return line._replace(state=run.state) if line.state in (*WORKING, "interrupted") else line


def line_of(run: Run) -> RunLine:
    """The line of one run. What cannot be read is left empty, so that one broken folder does not hide the others."""
    events = run.tail()
    measured = [event.data for event in events if event.type == "metrics"]
    state = run.state
    if not measured or state in WORKING or any(event.type == "resumed" for event in events):
        measured = run.metrics()
    last = measured[-1] if measured else {}
    saved = next((event.data for event in reversed(events) if "train_loss" in event.data), {})
    losses = {
        name: next((data[name] for data in reversed(measured) if data.get(name) is not None), None)
        for name in ("loss", "validation_loss")
    }
    return RunLine(
        run=run.run_id,
        state=state,
        created=created(run),
        base_model=run.base_model,
        data=data_name(run.config) if run.has_config else "",
        step=last.get("step", 0),
        steps=last.get("steps", 0),
        loss=losses["loss"],
        validation_loss=saved.get("validation_loss") or losses["validation_loss"],
        verdict=(run.read_json("report.json") or {}).get("verdict"),
        bytes=folder_size(run.path),
    )


def kept_sentence(run: Run) -> str:
    """Which step the adapter of a run is from; empty before it is saved."""
    return next((event.data["kept"] for event in reversed(run.events()) if event.data.get("kept")), "")


def data_name(config: RunConfig) -> str:
    """The rows of a run in words, without the folders of this machine."""
    return ", ".join(Path(path).name if Path(path).is_absolute() else path for path in config.dataset.paths)


def created(run: Run) -> str:
    """When a run was made, local time, ISO 8601: from its name, which copying and restoring leave alone."""
    try:
        return datetime.strptime(run.run_id[:15], "%Y%m%d-%H%M%S").isoformat()
    except ValueError:
        return datetime.fromtimestamp(run.path.stat().st_mtime).isoformat(timespec="seconds")


def _stamp(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns
