"""make bench: a hundred open pages while the starter trains: how long the page's timer waits, and what it costs the run.

One server, one run, in short turns with and without pollers. Each poller keeps its connection and asks once a second as the
page does, sending the marks of what it has. All rows of the run have the same length, so its steps are alike. Measured: the
latency of every answer, from when the question was due; the duration of the steps that lie whole in a turn, as the ratio of
each turn with pollers to its two neighbors without, with an interval over the turns; processor time of the server's event
loop and of the pollers an answer. The pollers share the processor with the run, which on a real machine they would not.
Goals: p95 under 250 ms, the run slowed by less than 2 %.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pollers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=6, help="of one turn")
    parser.add_argument("--turns", type=int, default=30, help="with pollers; one more goes without")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, _Server(Path(folder)) as server:
        run = server.start_run()
        pages = [_Page(server.port) for _ in range(options.pollers)]
        latencies: list[float] = []
        turns: list[tuple[float, float]] = []
        loop_seconds, own_seconds = [0.0, 0.0], 0.0
        for turn in range(2 * options.turns + 1):
            polled = turn % 2
            began, at_loop, own = time.time(), server.loop_seconds(), time.process_time()
            if polled:
                latencies += _poll(pages, options.seconds)
                own_seconds += time.process_time() - own
            else:
                time.sleep(options.seconds)
            turns.append((began, time.time()))
            loop_seconds[polled] += (server.loop_seconds() - at_loop) / (options.turns + 1 - polled)
        durations = [_step_seconds(run.steps_at(), *turn) for turn in turns]
    _tell(options, latencies, durations, (loop_seconds[1] - loop_seconds[0]) * options.turns, own_seconds)


def _tell(options: argparse.Namespace, latencies: list[float], steps: list[float], loop: float, own: float) -> None:
    slower = [
        steps[turn] / statistics.fmean((steps[turn - 1], steps[turn + 1])) - 1 for turn in range(1, len(steps), 2)
    ]
    error = statistics.stdev(slower) / math.sqrt(len(slower))
    points = statistics.quantiles(latencies, n=100)
    print(
        f"{options.pollers} pollers, {len(latencies)} answers: "
        f"p50 {points[49] * 1e3:.0f}, p95 {points[94] * 1e3:.0f}, p99 {points[98] * 1e3:.0f} ms"
    )
    print(f"seconds a step by turn, without and with pollers: {' '.join(f'{each:.3f}' for each in steps)}")
    print(
        f"with pollers a step takes {statistics.fmean(slower):+.1%} (standard error {error:.1%}, median {statistics.median(slower):+.1%})"
    )
    print(
        f"processor: {loop / len(latencies) * 1e3:.2f} ms of the server's loop an answer, "
        f"{own / len(latencies) * 1e3:.2f} ms of the poller's own"
    )


class _Server:
    """The page in a process of its own, with one run that is ready to go on."""

    def __init__(self, runs: Path) -> None:
        from ftui.config import RunConfig
        from ftui.runs import RunStore

        rows = runs / "rows.jsonl"
        rows.write_text("".join(json.dumps({"text": TEXT.format(row), "json": ANSWER}) + "\n" for row in range(1000)))
        self._run = RunStore(runs).create(RunConfig.load("starter", [*LONG, f"dataset.path={rows}"]))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._environment = {**os.environ, "FTUI_PORT": str(self.port), "FTUI_RUNS": str(runs)}

    def __enter__(self) -> _Server:
        self._process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=self._environment)
        _wait(lambda: self._get("health") is not None, 60)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def start_run(self) -> _Server:
        """As the page's Resume does; returns once the second step is done."""
        functions = json.loads(self._get("config") or b"{}")["dependencies"]
        resume = next(each["id"] for each in functions if each["api_name"] == "resume_run")
        asked = {"data": [], "fn_index": resume, "session_hash": "bench"}
        url, headers = f"http://127.0.0.1:{self.port}/gradio_api/run/predict", {"Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(url, json.dumps(asked).encode(), headers)).read()
        _wait(lambda: len(self._run.metrics()) >= 2, 300)
        return self

    def steps_at(self) -> list[float]:
        """When each step was done."""
        return [
            datetime.fromisoformat(event.time).timestamp() for event in self._run.events() if event.type == "metrics"
        ]

    def loop_seconds(self) -> float:
        """Processor time of the thread that answers."""
        pid = self._process.pid
        return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9

    def _get(self, path: str) -> bytes | None:
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=10).read()
        except OSError:
            return None


TEXT = "Order {:04d}: the desk fan came broken, and I would like to have my money back before the end of this week."
ANSWER = '{"product": "desk fan", "problem": "broken", "wish": "refund", "urgent": true}'
LONG = [
    "training.max_steps=5000",
    "training.eval_steps=5000",
    "quantization.load_in_4bit=false",
    "split.validation=4",
    "split.test=0",
    "training.per_device_train_batch_size=1",
]


def _step_seconds(steps: list[float], began: float, ended: float) -> float:
    inside = [step for step in steps if began <= step <= ended]
    if len(inside) < 4:
        sys.exit("Too few steps in a turn: give --seconds more.")
    return (inside[-1] - inside[0]) / (len(inside) - 1)


def _poll(pages: list[_Page], seconds: float) -> list[float]:
    """Every latency, in seconds. Each page asks once a second; one that waits for another before it is late by that, too."""
    began, latencies = time.monotonic(), []
    for question in range(int(seconds * len(pages))):
        due = began + question / len(pages)
        time.sleep(max(0, due - time.monotonic()))
        pages[question % len(pages)].ask()
        latencies.append(time.monotonic() - due)
    return latencies


class _Page:
    """An open page, as cheap as Python can be one."""

    def __init__(self, port: int) -> None:
        self._connection, self._marks = socket.create_connection(("127.0.0.1", port)), b""

    def ask(self) -> None:
        self._connection.sendall(b"GET /pulse?%b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % self._marks)
        head, _, body = self._read().partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        while len(body) < length:
            body += self._read()
        if body:
            self._marks = body[10 : body.index(b'"', 10)]

    def _read(self) -> bytes:
        return self._connection.recv(1 << 20) or sys.exit("The server has closed a connection.")


def _wait(ready: Callable[[], object], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > until:
            sys.exit("The server did not get ready in time.")
        time.sleep(0.2)


if __name__ == "__main__":
    main()
