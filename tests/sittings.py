"""Sittings of the terminal that can be killed for real without waiting for their libraries: a nursery loads those once and
forks a process for each command.

It computes in fp32, where a resumed run must equal an uninterrupted one. `python -m tests.sittings` is the nursery.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType

HOME = Path(__file__).parents[1]


class Sitting:
    """`python -m ftui …` as a process of its own; `said` is what it printed so far."""

    def __init__(self, nursery: Nursery, pid: int, log: Path) -> None:
        self._nursery, self.pid, self._log = nursery, pid, log

    def kill(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Its exit status, negative for the signal that ended it."""
        return self._nursery.ask("wait", self.pid)

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace")


class Nursery:
    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0

    def __enter__(self) -> Nursery:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.sittings"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HOME
        )
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.stdin.close()
        self._process.wait()

    def start(self, *arguments: str) -> Sitting:
        self._count += 1
        log = self._folder / f"sitting-{self._count}.log"
        return Sitting(self, self.ask("start", str(log), *arguments), log)

    def ask(self, *words: str | int) -> int:
        print(json.dumps(words), file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())


def _serve() -> None:
    import datasets  # noqa: F401
    import peft  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401
    import trl  # noqa: F401

    from ftui import device
    from ftui.__main__ import main

    device._cpu_has_bf16 = lambda: False
    for line in sys.stdin:
        what, *arguments = json.loads(line)
        if what == "wait":
            print(os.waitstatus_to_exitcode(os.waitpid(arguments[0], 0)[1]), flush=True)
        elif pid := os.fork():
            print(pid, flush=True)
        else:
            log = os.open(arguments[0], os.O_WRONLY | os.O_CREAT)
            os.dup2(log, 1)
            os.dup2(log, 2)
            code = 1
            try:
                code = main(arguments[1:])
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)


if __name__ == "__main__":
    _serve()
