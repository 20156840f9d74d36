"""Checkpoints: which ones are complete, the newest of them, and the adapter inside."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

MARK = "complete.json"
KEPT = 2  # the newest ones, and the best


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
