"""RunStore: all runs, the folders in one folder; what was uploaded for them, and what was thrown away."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from ftui.config import RunConfig
from ftui.errors import UserError, listed
from ftui.runs.run import WORKING, Run, write_whole

RUN_NAME = re.compile(r"[\w-]+")
QUEUE, UPLOADS, TRASH = ".queue", ".uploads", ".trash"


class RunStore:
    """All runs: the folders in one folder."""

    def __init__(self, folder: Path, now: Callable[[], datetime] = datetime.now) -> None:
        self.folder = folder
        self._now = now
        self._open: dict[str, Run] = {}

    def create(self, config: RunConfig) -> Run:
        """A new run, queued. UserError when the folder cannot be written to."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"{_stamp(_names(self.folder), self._now())}-{slug(config)}-{secrets.token_hex(2)}"
            path.mkdir()
            write_whole(path / "config.yaml", config.to_yaml())
            run = self.open(path.name)
            run.log("state", "Waiting to start.", state="queued")
        except OSError as error:
            raise UserError(
                f"The folder of runs cannot be written to: {error.strerror}. Free some space or choose another with --runs."
            ) from None
        return run

    def open(self, run_id: str) -> Run:
        """The run of this name, or the only one whose name begins so. UserError when there is none, or several fit."""
        if not (run_id in self._open and (self.folder / run_id / "config.yaml").is_file()):  # deleted elsewhere
            self._open.pop(run_id, None)
            names = [name for name in _names(self.folder) if run_id and name.startswith(run_id)]
            if run_id not in names and len(names) > 1:
                fitting = listed(sorted(names, reverse=True), 8)
                raise UserError(f"“{run_id}” fits {len(names)} runs: {fitting}. Write more of the name.")
            if not names:
                raise UserError(
                    f"There is no run “{run_id[:80]}” in {self.folder.name}. `python -m ftui runs` lists them."
                )
            run_id = run_id if run_id in names else names[0]
            self._open.setdefault(run_id, Run(self.folder / run_id))
        return self._open[run_id]

    def find(self, name: str) -> Run:
        """A run by its name, by its path, or the newest one for `last`."""
        runs = self.list()
        if name == "last" and runs:
            return runs[0]
        path = Path(name)
        if len(name) < 256 and path.is_dir() and (path / "config.yaml").is_file():
            return Run(path)
        return self.open(name)

    def list(self) -> list[Run]:
        """All runs, the newest first."""
        return [
            self._open.setdefault(name, Run(self.folder / name)) for name in sorted(_names(self.folder), reverse=True)
        ]

    # uploads

    @property
    def uploads_dir(self) -> Path:
        return self.folder / UPLOADS

    def keep_uploads(self, paths: Sequence[Path]) -> Path:
        """Copies uploaded files to where they stay for as long as runs need them: the file, or a folder of several."""
        names = [re.sub(r"[^\w.-]+", "_", path.name).lstrip(".")[-80:] or "upload" for path in paths]
        digest = hashlib.sha256(b"".join(hashlib.file_digest(path.open("rb"), "sha256").digest() for path in paths))
        if len(names) > 1:  # two files may have one name
            names = [f"{number:03d}-{name}" for number, name in enumerate(names, 1)]
            digest.update("\n".join(names).encode())  # a folder is read whole: none may come to it under another name
        folder = self.uploads_dir / digest.hexdigest()[:12]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path, name in zip(paths, names, strict=True):
                partial = shutil.copyfile(path, folder / f".{name}")
                partial.replace(folder / name)
        except OSError as error:
            raise _cannot_keep(error) from None
        return folder / names[0] if len(paths) == 1 else folder

    def keep_text(self, text: str, name: str) -> Path:
        """Keeps text that was pasted, or rows that were mended, as a file of this name."""
        folder = self.uploads_dir / hashlib.sha256(text.encode()).hexdigest()[:12]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return write_whole(folder / name, text)
        except OSError as error:
            raise _cannot_keep(error) from None

    # the trash

    @property
    def trash_dir(self) -> Path:
        return self.folder / TRASH

    def trash(self, run: Run) -> None:
        """Moves a run out of sight, into the folder .trash; nothing is deleted. UserError for a run at work, and where it
        cannot be moved."""
        if run.is_held:
            raise UserError(f"Run {run.run_id} is at work. Stop it first, or discard it.")
        _move(run.path, self.trash_dir)
        self._open.pop(run.run_id, None)

    def trashed(self) -> list[Run]:
        """The runs in the trash, the newest first."""
        return [Run(self.trash_dir / name) for name in sorted(_names(self.trash_dir), reverse=True)]

    def restore(self, run_id: str) -> Run:
        """Brings a run back from the trash. UserError when it is not there, and where it cannot be moved."""
        if run_id not in _names(self.trash_dir):
            raise UserError(f"There is no run “{run_id[:80]}” in the trash.")
        run = self.open(_move(self.trash_dir / run_id, self.folder).name)
        if run.discarded:
            run.log("state", "Brought back from the trash.", state=run.written_state)
        return run

    def empty_trash(self, first: Callable[[set[str]], None] | None = None) -> int:
        """Deletes for good what is in the trash now, and returns how many bytes that were.

        `first` gets the names of the runs that will be nowhere then; where it raises, nothing is deleted. What comes to the
        trash meanwhile stays. UserError where something cannot be deleted.
        """
        size, there = 0, sorted(self.trash_dir.glob("*"))  # what an earlier emptying has left comes first
        if first:
            first({path.name for path in there} - set(_names(self.folder)))
        for path in there:
            size += folder_size(path)
            going = path if path.name.startswith(".") else path.with_name(f".{path.name}")
            try:
                shutil.rmtree(path.rename(going))  # from here on nobody can restore half of it
            except FileNotFoundError:
                continue  # somebody has restored it
            except OSError as error:
                raise UserError(f"Run {path.name} cannot be deleted: {error.strerror}.") from None
        return size

    # the queue

    def left_waiting(self) -> list[Run]:
        """After a start of the app: the runs that an app that ended has left in its queue, the next one first.

        One that had begun once and was to go on is not among them: it reads "interrupted" again.
        """
        left = [run for run in reversed(self.list()) if run.waits and not run.is_held]
        begun = [run for run in left if any(event.data.get("state") in WORKING for event in run.events())]
        for run in begun:
            run.end("interrupted", "ftui ended before this run went on. What it saved is kept.", "warning")
        try:
            kept = (self.folder / QUEUE).read_text(encoding="utf-8").split()
        except (OSError, ValueError):
            kept = []
        places = {name: place for place, name in enumerate(kept)}
        return sorted((run for run in left if run not in begun), key=lambda run: places.get(run.run_id, len(places)))

    def keep_order(self, waiting: Sequence[Run]) -> None:
        """Writes down an order that is not that of the names, for `left_waiting`."""
        with suppress(OSError):  # a full disk must not keep anybody from changing it
            write_whole(self.folder / QUEUE, "".join(f"{run.run_id}\n" for run in waiting))

    def working(self) -> Run | None:
        """The run that somebody works on now, or is about to: it holds its lock."""
        runs = self.list()
        return next((run for run in runs if run.state in WORKING or run.waits and run.is_held), None)

    def held(self) -> Run | None:
        """A run that anybody holds, also to compare or merge one that has ended. Tries all locks: for clicks, not for polls."""
        return next((run for run in self.list() if run.is_held), None)


def folder_size(folder: Path) -> int:
    """Bytes of all files in a folder; what vanishes meanwhile counts as nothing."""
    size = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                size += os.lstat(os.path.join(path, name)).st_size
    return size


def _names(folder: Path) -> list[str]:
    """The runs in a folder, in no order."""
    try:
        found = os.listdir(folder)
    except OSError:
        return []
    return [name for name in found if RUN_NAME.fullmatch(name) and os.path.isfile(folder / name / "config.yaml")]


def _move(path: Path, folder: Path) -> Path:
    """Moves a run into `folder`, under another name where one of its name lies there: a copy of it, or one brought back."""
    places = (folder / name for name in (path.name, *(f"{path.name}-{number}" for number in range(2, 1000))))
    try:
        folder.mkdir(exist_ok=True)
        return path.rename(next(place for place in places if not place.exists()))
    except OSError as error:
        raise UserError(f"Run {path.name} cannot be moved to {folder.name}: {error.strerror}.") from None


def _cannot_keep(error: OSError) -> UserError:
    return UserError(
        f"The rows cannot be kept: {error.strerror}. Free some space, or choose another folder with --runs."
    )


def _stamp(names: Sequence[str], now: datetime) -> str:
    """When a new run begins, for its name: later than all others, so that names keep their order when a clock is set back."""
    newest = max((name[:15] for name in names if re.match(r"\d{8}-\d{6}-", name)), default="")
    with suppress(ValueError, OverflowError):  # none, or digits that are no time
        now = max(now, datetime.strptime(newest, "%Y%m%d-%H%M%S") + timedelta(seconds=1))
    return f"{now:%Y%m%d-%H%M%S}"


def slug(config: RunConfig) -> str:
    """The name of the rows of a run, fit for that of a file."""
    return re.sub(r"[^a-z0-9]+", "-", Path(config.dataset.paths[0]).stem.lower()).strip("-")[:24] or "run"
