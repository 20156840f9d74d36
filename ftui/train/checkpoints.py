"""Checkpoints: which ones are complete, the newest of them, what they hold, and the way back to one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from ftui.errors import UserError
from ftui.runs import Run, folder_size

MARK = "complete.json"
KEPT = 2  # the newest ones, and the best
OUTCOME = ("merged", "report.json", "report.md", "proof.json", "README.md")  # what came of the adapter


class Checkpoint(NamedTuple):
    """A complete checkpoint of a run. `written`: local time, ISO 8601."""

    step: int
    path: Path
    validation_loss: float | None
    written: str
    bytes: int


def mark_complete(checkpoint: Path) -> None:
    """Written last, once every file is on the disk: their names and sizes."""
    files = (path for path in sorted(checkpoint.rglob("*")) if path.is_file() and path.name != MARK)
    sizes = {str(path.relative_to(checkpoint)): path.stat().st_size for path in files}
    for name in sizes:
        with (checkpoint / name).open("rb") as file:
            os.fsync(file.fileno())
    partial = checkpoint / f".{MARK}"
    partial.write_text(json.dumps(sizes))
    partial.replace(checkpoint / MARK)


def is_complete(checkpoint: Path) -> bool:
    """Whether every file that was there when it was marked is there still, in full."""
    try:
        sizes = json.loads((checkpoint / MARK).read_text())
        return bool(sizes) and all((checkpoint / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, AttributeError):
        return False


def is_shared(checkpoint: Path) -> bool:
    """Whether ranks that shared the base (FSDP) wrote it, in accelerate's form beside the adapter's own."""
    return (checkpoint / "pytorch_model_fsdp.bin").is_file()


def prune(folder: Path, best: int | None) -> None:
    """Deletes all checkpoints of a run but the newest complete ones and that of the step `best`.

    transformers' own way goes by the clock, which may be set back, and before the newest one is marked as complete.
    """
    kept = {*complete_checkpoints(folder)[:KEPT], folder / f"checkpoint-{best}"}
    for path in set(folder.glob("checkpoint-*")) - kept:
        shutil.rmtree(path, ignore_errors=True)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def complete_checkpoints(folder: Path) -> list[Path]:
    """All complete checkpoints of a run, the newest first."""
    found = [
        path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit() and is_complete(path)
    ]
    return sorted(found, key=step_of, reverse=True)


def checkpoints_of(run: Run) -> list[Checkpoint]:
    """What a run can go on from, the newest first, with what was measured there."""
    losses = {
        data["step"]: data["validation_loss"] for data in run.metrics() if data.get("validation_loss") is not None
    }
    return [
        Checkpoint(
            step := step_of(path),
            path,
            losses.get(step),
            datetime.fromtimestamp((path / MARK).stat().st_mtime).isoformat(timespec="seconds"),
            folder_size(path),
        )
        for path in complete_checkpoints(run.checkpoints_dir)
    ]


def checkpoint_at(run: Run, step: int) -> Path:
    """The folder of the complete checkpoint of this step. UserError names those there are."""
    found = {step_of(path): path for path in complete_checkpoints(run.checkpoints_dir)}
    if step not in found:
        there = ", ".join(map(str, sorted(found))) or "none"
        raise UserError(f"Run {run.run_id} has no complete checkpoint of step {step}. Complete ones: {there}.")
    return found[step]


def forget_outcome(run: Run) -> None:
    """Deletes what came of the adapter, which is about to be another one."""
    _delete(*(run.path / name for name in OUTCOME))


def _delete(*paths: Path) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def rewind(run: Run, step: int, first: Callable[[Run, int], None] | None = None) -> None:
    """Takes a run back to the checkpoint of this step: later checkpoints are deleted, with the adapter and the report that
    came of them; later measurements no longer count.

    `first` does the same elsewhere before anything goes here. UserError for a step without one, for a finished run, and for
    one at work.
    """
    checkpoint_at(run, step)
    if run.written_state == "done":
        raise UserError(f"Run {run.run_id} is done, and a finished run is not trained again. Start a new run from it.")
    with run.held():
        folders = run.checkpoints_dir.glob("checkpoint-*")
        later = [path for path in folders if path.name.rpartition("-")[2].isdigit() and step_of(path) > step]
        if first:
            first(run, step)
        if later:
            forget_outcome(run)
            _delete(run.adapter_dir, *later)
        for report in run.path.glob("report-step-*.*"):
            if report.stem.rpartition("-")[2].isdigit() and step_of(report.with_suffix("")) > step:
                report.unlink()
        run.log("resumed", f"Back to the checkpoint of step {step}; what came after it is gone.", step=step)
