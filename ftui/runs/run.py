"""Run: a folder, which is all that a trainer and its watchers share.

`events.jsonl` is append-only; the state is its last state event. Whoever works on a run holds its lock, which dies with
its owner, so a working state that nobody holds reads "interrupted". This file does not know what the work is.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from filelock import FileLock, Timeout

from ftui.config import RunConfig
from ftui.errors import UserError

WORKING = ("preparing", "training", "evaluating", "merging")
ENDED = ("done", "stopped", "failed", "interrupted")
STATES = ("queued", *WORKING, *ENDED)
Level = Literal["info", "warning", "error"]
TAIL = 1 << 14  # bytes: the last state and measurements of an ended run stand within them
CHECKPOINTS = "checkpoints"


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
            return RunConfig.load(self.path / "config.yaml")
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

    @property
    def written(self) -> float:
        """When its last event was written, as its file says, in seconds since 1970; 0 where there is none."""
        try:
            return os.stat(self._events_path).st_mtime
        except OSError:
            return 0.0

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
        return self._last_state.get("state", "queued")

    @property
    def waits(self) -> bool:
        """Whether it was put into a queue, and nothing was written since; a run whose events are lost was not."""
        return self._last_state.get("state") == "queued"

    @property
    def _last_state(self) -> dict[str, Any]:
        """What the last state event holds; nothing where there is none."""
        return next((event.data for event in reversed(self.tail()) if event.type == "state"), {})

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
    def stage(self, state: str, message: str, **data: Any) -> Iterator[None]:
        """One stage of the work: writes its state before it begins; Stopped where somebody has wished for that."""
        if self.stop_wanted:
            raise Stopped
        self.log("state", message, state=state, **data)
        yield

    def end(self, state: str, message: str, level: Level = "info", **data: Any) -> None:
        """The last state; whoever carried the run out throws it away where somebody wished that."""
        self.log("state", message, level, state=state, discarded=self.discarding, **data)
        self.forget_stop()

    # stopping

    def stop(self, reason: Literal["stop", "shutdown", "discard"] = "stop") -> None:
        """Wishes the work to stop at the next safe place; after a shutdown it is to go on later, a discarded run goes to the
        trash, whatever is wished after that."""
        if not self.discarding:
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
        return bool(self._last_state.get("discarded"))

    @property
    def _stop_reason(self) -> str:
        try:
            return (self.path / "stop").read_text(errors="replace")
        except OSError:
            return ""

    # files

    def write(self, name: str, text: str) -> Path:
        """Writes a file so that no reader ever sees half of it."""
        return write_whole(self.path / name, text)

    def read_json(self, name: str) -> dict[str, Any] | None:
        """None for a file that is missing or broken, or holds something else than an object."""
        try:
            found = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    @contextmanager
    def new_folder(self, name: str) -> Iterator[Path]:
        """A folder to fill; it takes the place of `name` only when the block ends well."""
        for left in self.path.glob(f".{name}-*"):  # by a process that was killed: a merged model is large
            shutil.rmtree(left, ignore_errors=True)
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
    def checkpoints_dir(self) -> Path:
        return self.path / CHECKPOINTS

    @property
    def adapter_dir(self) -> Path:
        return self.path / "adapter"

    @property
    def merged_dir(self) -> Path:
        return self.path / "merged"


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
