"""Run and RunStore: a run is a folder, and the folder is all that a trainer and its watchers share.

`events.jsonl` is append-only; the state is its last state event. Whoever works on a run holds its lock, which dies with
its owner, so a working state that nobody holds reads "interrupted". This file does not know what the work is.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from filelock import FileLock, Timeout

from ftui.config import RunConfig
from ftui.errors import UserError

WORKING = ("preparing", "training", "evaluating", "merging")
RUN_NAME = re.compile(r"[\w-]+")
ENDED = ("done", "stopped", "failed", "interrupted")
STATES = ("queued", *WORKING, *ENDED)
Level = Literal["info", "warning", "error"]
TAIL = 1 << 14  # bytes: the last state and measurements of an ended run stand within them


class Event(NamedTuple):
    """One line of events.jsonl. `type`: state, message, metrics, progress, sample or resumed; `time`: ISO 8601, UTC."""

    time: str
    level: str
    type: str
    message: str
    data: dict[str, Any]


class Stopped(Exception):
    """Somebody wished this run to stop; the work noticed at a safe place."""


class Run:
    """One run folder. Reading is cheap and never blocks the writer; writing belongs to the holder of the lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_id = path.name
        self._lock = FileLock(path / "lock")
        self._events_path = os.fspath(path / "events.jsonl")
        self._reading, self._probing = threading.Lock(), threading.Lock()
        self._events: list[Event] = []
        self._read_to = 0
        self._tail: tuple[int, list[Event]] = (0, [])

    def __repr__(self) -> str:
        return f"Run({self.run_id})"

    @cached_property
    def config(self) -> RunConfig:
        try:
            return RunConfig.from_yaml((self.path / "config.yaml").read_text(encoding="utf-8"))
        except UserError as error:
            raise UserError(f"The config of run {self.run_id} cannot be read: {error}") from None

    @property
    def has_config(self) -> bool:
        """For lists: a config that can no longer be read does not hide its run."""
        try:
            return bool(self.config)
        except (UserError, OSError):
            return False

    @property
    def base_model(self) -> str:
        return self.config.base_model if self.has_config else "its config cannot be read"

    # what happened

    def events(self) -> list[Event]:
        """All events so far. A last line that a crash cut is left for later; a broken one inside is passed over."""
        with self._reading:
            try:
                with (self.path / "events.jsonl").open("rb") as file:
                    if file.seek(0, os.SEEK_END) < self._read_to:  # somebody put another file in its place
                        self._read_to, self._events = 0, []
                    file.seek(self._read_to)
                    new = file.read()
            except OSError:
                new = b""
            whole = new[: new.rfind(b"\n") + 1]
            self._read_to += len(whole)
            self._events += [event for line in whole.splitlines() if (event := _parse(line))]
            return list(self._events)

    def tail(self) -> list[Event]:
        """The last events, the last state among them, without reading a long file whole: for lists of many runs."""
        try:
            size = os.stat(self._events_path).st_size
            if size != self._tail[0]:
                self._tail = (size, self._read_tail(size))
        except OSError:
            self._tail = (0, [])
        return self._tail[1]

    def _read_tail(self, size: int) -> list[Event]:
        with open(self._events_path, "rb") as file:
            file.seek(max(0, size - TAIL))
            lines = file.read(min(size, TAIL)).rpartition(b"\n")[0].splitlines()
        events = [event for line in lines if (event := _parse(line))]  # the first line may be cut: no event
        has_state = any("state" in event.data for event in events if event.type == "state")
        return events if has_state or size <= TAIL else self.events()

    def log(self, type: str, message: str = "", level: Level = "info", **data: Any) -> None:
        """Appends one event, mending a last line that a crash cut before."""
        event = Event(datetime.now(UTC).isoformat(timespec="milliseconds"), level, type, message, data)
        line = json.dumps(event._asdict(), ensure_ascii=False, default=str).encode() + b"\n"
        with (self.path / "events.jsonl").open("ab+") as file:
            if file.tell() and _last_byte(file) != b"\n":
                line = b"\n" + line
            file.write(line)
            file.flush()

    def counting(self, what: str, of: float, clock: Callable[[], float] = time.monotonic) -> Callable[[float], None]:
        """Takes how much of a stage is done, and writes it down at most once a second: a progress event.

        Raises Stopped where somebody has wished for that.
        """
        last = float("-inf")

        def count(done: float) -> None:
            nonlocal last
            if self.stop_wanted:
                raise Stopped
            if (now := clock()) - last >= 1:
                last = now
                self.log("progress", what=what, done=round(done, 2), of=of)

        return count

    def metrics(self) -> list[dict[str, Any]]:
        """All measurements, oldest first. What a crash undid is left out: a resumed run measures those steps again."""
        measured: list[dict[str, Any]] = []
        for event in self.events():
            if event.type == "metrics":
                measured.append(event.data)
            elif event.type == "resumed":
                measured = [data for data in measured if data["step"] <= event.data["step"]]
        return measured

    # the state

    @property
    def state(self) -> str:
        state = self.written_state
        return "interrupted" if state in WORKING and not self.is_held else state

    @property
    def written_state(self) -> str:
        states = (
            event.data["state"] for event in reversed(self.tail()) if event.type == "state" and "state" in event.data
        )
        return next(states, "queued")

    @property
    def is_held(self) -> bool:
        """Whether somebody, in this process or another, works on this run."""
        if not self.path.is_dir():  # deleted meanwhile; to try the lock would make the folder again
            return False
        try:
            with self._probing, FileLock(self.path / "lock").acquire(blocking=False):
                return False
        except Timeout:
            return True
        except OSError:
            return False

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the lock within the block. UserError when somebody else works on this run."""
        try:
            with self._lock.acquire(timeout=2):
                yield
        except Timeout:
            raise UserError(f"Run {self.run_id} is being worked on by another process.") from None

    @contextmanager
    def stage(self, state: str, message: str) -> Iterator[None]:
        """One stage of the work: writes its state before it begins; Stopped where somebody has wished for that."""
        if self.stop_wanted:
            raise Stopped
        self.log("state", message, state=state)
        yield

    def end(self, state: str, message: str, level: Level = "info", **data: Any) -> None:
        """The last state; whoever carried the run out throws it away where somebody wished that."""
        self.log("state", message, level, state=state, discarded=self.discarding, **data)
        self.forget_stop()

    # stopping

    def stop(self, reason: Literal["stop", "shutdown", "discard"] = "stop") -> None:
        """Wishes the work to stop at the next safe place; after a shutdown it is to go on later, a discarded run goes to the trash."""
        self.write("stop", reason)

    def forget_stop(self) -> None:
        """Takes back a wish of an earlier sitting, before a run goes on."""
        (self.path / "stop").unlink(missing_ok=True)

    @property
    def stop_wanted(self) -> bool:
        return (self.path / "stop").exists()

    @property
    def shutting_down(self) -> bool:
        return self._stop_reason == "shutdown"

    @property
    def discarding(self) -> bool:
        return self._stop_reason == "discard"

    @property
    def discarded(self) -> bool:
        """Whether the run ended because somebody threw it away; its place is the trash."""
        return any(event.data.get("discarded") for event in self.tail()[-1:])

    @property
    def _stop_reason(self) -> str:
        try:
            return (self.path / "stop").read_text()
        except OSError:
            return ""

    # files

    def write(self, name: str, text: str) -> Path:
        """Writes a file so that no reader ever sees half of it."""
        return write_whole(self.path / name, text)

    def read_json(self, name: str) -> dict[str, Any] | None:
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    @contextmanager
    def new_folder(self, name: str) -> Iterator[Path]:
        """A folder to fill; it takes the place of `name` only when the block ends well."""
        work = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=self.path))
        try:
            yield work
            work.chmod(0o755)
            old = self.path / f".{name}-old"
            shutil.rmtree(old, ignore_errors=True)
            if (self.path / name).exists():
                (self.path / name).rename(old)
            work.rename(self.path / name)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    @property
    def adapter_dir(self) -> Path:
        return self.path / "adapter"

    @property
    def merged_dir(self) -> Path:
        return self.path / "merged"


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
            path = self.folder / f"{_stamp(_names(self.folder), self._now())}-{_slug(config)}-{secrets.token_hex(2)}"
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
        """The run of this name, or the only one whose name begins so. UserError when there is none."""
        if not (run_id in self._open and (self.folder / run_id / "config.yaml").is_file()):  # deleted elsewhere
            self._open.pop(run_id, None)
            names = [name for name in _names(self.folder) if run_id and name.startswith(run_id)]
            if run_id not in names and len(names) != 1:
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

    def keep_uploads(self, paths: Sequence[Path]) -> Path:
        """Copies uploaded files to where they stay for as long as runs need them: the file, or a folder of several."""
        digest = hashlib.sha256(b"".join(hashlib.file_digest(path.open("rb"), "sha256").digest() for path in paths))
        folder = self.folder / ".uploads" / digest.hexdigest()[:12]
        names = [re.sub(r"[^\w.-]+", "_", path.name).lstrip(".")[-80:] or "upload" for path in paths]
        if len(names) > 1:  # two files may have one name
            names = [f"{number:03d}-{name}" for number, name in enumerate(names, 1)]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path, name in zip(paths, names, strict=True):
                partial = shutil.copyfile(path, folder / f".{name}")
                partial.replace(folder / name)
        except OSError as error:
            raise _cannot_keep(error) from None
        return folder / names[0] if len(paths) == 1 else folder

    def keep_text(self, text: str, suffix: str) -> Path:
        """Keeps text that was pasted, or rows that were mended, as a file."""
        folder = self.folder / ".uploads" / hashlib.sha256(text.encode()).hexdigest()[:12]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return write_whole(folder / f"rows{suffix}", text)
        except OSError as error:
            raise _cannot_keep(error) from None

    # the trash

    def trash(self, run: Run) -> None:
        """Moves a run out of sight, into the folder .trash; nothing is deleted. UserError for a run at work."""
        if run.is_held:
            raise UserError(f"Run {run.run_id} is at work. Stop it first, or discard it.")
        self._trash_dir.mkdir(exist_ok=True)
        run.path.rename(self._trash_dir / run.run_id)
        self._open.pop(run.run_id, None)

    def trashed(self) -> list[Run]:
        """The runs in the trash, the newest first."""
        return [Run(self._trash_dir / name) for name in sorted(_names(self._trash_dir), reverse=True)]

    def restore(self, run_id: str) -> Run:
        """Brings a run back from the trash. UserError when it is not there."""
        if run_id not in _names(self._trash_dir):
            raise UserError(f"There is no run “{run_id[:80]}” in the trash.")
        (self._trash_dir / run_id).rename(self.folder / run_id)
        return self.open(run_id)

    def empty_trash(self) -> int:
        """Deletes what is in the trash for good, and returns how many bytes that were."""
        size = folder_size(self._trash_dir)
        shutil.rmtree(self._trash_dir, ignore_errors=True)
        return size

    @property
    def _trash_dir(self) -> Path:
        return self.folder / ".trash"

    def adopt(self) -> None:
        """After a start of the app: runs that waited in the queue of an app that ended are interrupted, not waiting."""
        for run in self.list():
            if run.written_state == "queued" and not run.is_held:
                run.end("interrupted", "ftui ended before this run began. Resume starts it.", "warning")

    def working(self) -> Run | None:
        """The run that somebody works on now, else the one that has waited longest."""
        runs = self.list()
        waiting = (run for run in reversed(runs) if run.state == "queued")
        return next((run for run in runs if run.state in WORKING), None) or next(waiting, None)


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


def _cannot_keep(error: OSError) -> UserError:
    return UserError(
        f"The rows cannot be kept: {error.strerror}. Free some space, or choose another folder with --runs."
    )


def write_whole(path: Path, text: str) -> Path:
    """Writes under a temporary name in the same folder, flushes, and renames."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        return Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)


def _stamp(names: Sequence[str], now: datetime) -> str:
    """When a new run begins, for its name: later than all others, so that names keep their order when a clock is set back."""
    newest = max((name[:15] for name in names if re.match(r"\d{8}-\d{6}-", name)), default="")
    with suppress(ValueError, OverflowError):  # none, or digits that are no time
        now = max(now, datetime.strptime(newest, "%Y%m%d-%H%M%S") + timedelta(seconds=1))
    return f"{now:%Y%m%d-%H%M%S}"


def _slug(config: RunConfig) -> str:
    first = config.dataset.path if isinstance(config.dataset.path, str) else config.dataset.path[0]
    return re.sub(r"[^a-z0-9]+", "-", Path(first).stem.lower()).strip("-")[:24] or "run"


def _last_byte(file: Any) -> bytes:
    file.seek(-1, os.SEEK_END)
    return file.read(1)


def _parse(line: bytes) -> Event | None:
    try:
        event = Event(**json.loads(line))
    except (ValueError, TypeError, RecursionError):
        return None
    in_order = isinstance(event.data, dict) and all(isinstance(part, str) for part in event[:4])
    if not in_order or (event.type == "state" and event.data.get("state") not in STATES):
        return None
    return event if event.type not in ("metrics", "resumed", "sample") or "step" in event.data else None
