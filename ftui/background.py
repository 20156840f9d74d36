"""BackgroundTrainer: one run at a time, in a daemon thread of this process. It belongs to the server, never to a page.

Nothing passes from the work to the page but through the run's folder.
"""

from __future__ import annotations

import os
import threading

from ftui.config import RunConfig
from ftui.device import Lease
from ftui.errors import UserError
from ftui.runs import Run, RunStore


class BackgroundTrainer:
    """Starts runs; refuses a second one while one works."""

    def __init__(self, store: RunStore, lease: Lease) -> None:
        self._store = store
        self._lease = lease
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._run: Run | None = None

    def start(self, config: RunConfig) -> Run:
        """A new run, at work. UserError while another works, in this process or in a terminal."""
        with self._starting:
            if self._thread and self._thread.is_alive() and self._run:
                raise UserError(f"Run {self._run.run_id} is still at work. Stop it first, or wait until it is done.")
            other = self._store.working()
            if other:
                raise UserError(
                    f"Run {other.run_id} is at work in another process. Stop it first, or wait until it is done."
                )
            self._run = self._store.create(config)
            self._thread = threading.Thread(target=self._work, args=(self._run,), name=self._run.run_id, daemon=True)
            self._thread.start()
            return self._run

    @property
    def is_working(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _work(self, run: Run) -> None:
        _be_nice()
        from ftui.loop import carry_out

        carry_out(run, self._lease)


def _be_nice() -> None:
    """Lets the page go first; on Linux a thread has its own priority, and OpenMP's workers inherit it."""
    if hasattr(os, "setpriority") and hasattr(os, "PRIO_PROCESS"):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
