"""make bench: a hundred open pages while the starter trains: how long the page's timer waits, and what it costs the run.

One server, one run, in turns with and without pollers. Each poller keeps its connection and asks once a second as the page
does, sending the marks of what it has. Measured: the latency of every answer; tokens a second of the steps that lie whole
in a turn, as the ratio of each turn with pollers to the mean of its neighbors without; processor time of the server's
event loop an answer; and that of the pollers, which on a real machine would not be ours. Goals: p95 under 250 ms, the
run slowed by less than 2 %.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
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
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pollers", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=24, help="of one turn")
    parser.add_argument("--turns", type=int, default=4, help="with pollers; one more goes without")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, _server(Path(folder)) as server:
        run = server.start_run()
        latencies: list[float] = []
        turns: list[tuple[float, float]] = []
        loop_seconds, own_seconds = [0.0, 0.0], 0.0
        for turn in range(2 * options.turns + 1):
            polled = turn % 2
            began, at_loop, own = time.time(), server.loop_seconds(), time.process_time()
            if polled:
                latencies += asyncio.run(_poll(server.port, options.pollers, options.seconds))
                own_seconds += time.process_time() - own
            else:
                time.sleep(options.seconds)
            turns.append((began, time.time()))
            loop_seconds[polled] += (server.loop_seconds() - at_loop) / (options.turns + 1 - polled)
        rates = [_rate(run.metrics_at(), *turn) for turn in turns]
    _tell(options, latencies, rates, (loop_seconds[1] - loop_seconds[0]) * options.turns, own_seconds)


def _tell(options: argparse.Namespace, latencies: list[float], rates: list[float], loop: float, own: float) -> None:
    ratios = [rates[turn] / statistics.fmean((rates[turn - 1], rates[turn + 1])) for turn in range(1, len(rates), 2)]
    points = statistics.quantiles(latencies, n=100)
    print(
        f"{options.pollers} pollers, {len(latencies)} answers: "
        f"p50 {points[49] * 1e3:.0f}, p95 {points[94] * 1e3:.0f}, p99 {points[98] * 1e3:.0f} ms"
    )
    print(f"tokens/s by turn, without and with pollers: {' '.join(f'{rate:.0f}' for rate in rates)}")
    print(
        f"training with pollers: {statistics.median(ratios):.3f} × without (turns {min(ratios):.3f} to {max(ratios):.3f})"
    )
    print(
        f"processor: {loop / len(latencies) * 1e3:.2f} ms of the server's loop an answer, "
        f"{own / len(latencies) * 1e3:.2f} ms of the poller's own"
    )


class _server:
    """The page in a process of its own, with one run that is ready to go on."""

    def __init__(self, runs: Path) -> None:
        from ftui.config import RunConfig
        from ftui.runs import RunStore

        self._run = RunStore(runs).create(RunConfig.load("starter", LONG))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._environment = {**os.environ, "FTUI_PORT": str(self.port), "FTUI_RUNS": str(runs)}

    def __enter__(self) -> _server:
        self._process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=self._environment)
        _wait(lambda: self._get("health") is not None, 60)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def start_run(self) -> _server:
        """As the page's Resume does; returns once the second step is done."""
        functions = json.loads(self._get("config") or b"{}")["dependencies"]
        resume = next(each["id"] for each in functions if each["api_name"] == "resume_run")
        asked = {"data": [], "fn_index": resume, "session_hash": "bench"}
        url, headers = f"http://127.0.0.1:{self.port}/gradio_api/run/predict", {"Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(url, json.dumps(asked).encode(), headers)).read()
        _wait(lambda: len(self._run.metrics()) >= 2, 300)
        return self

    def metrics_at(self) -> list[tuple[float, int]]:
        """When each step was done, and the tokens seen until then."""
        events = [event for event in self._run.events() if event.type == "metrics"]
        return [(datetime.fromisoformat(event.time).timestamp(), event.data["tokens"]) for event in events]

    def loop_seconds(self) -> float:
        """Processor time of the thread that answers."""
        pid = self._process.pid
        fields = Path(f"/proc/{pid}/task/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def _get(self, path: str) -> bytes | None:
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=10).read()
        except OSError:
            return None


LONG = [
    "training.max_steps=5000",
    "training.eval_steps=5000",
    "split.validation=4",
    "split.test=0",
    "training.per_device_train_batch_size=4",
]


def _rate(steps: list[tuple[float, int]], began: float, ended: float) -> float:
    inside = [step for step in steps if began <= step[0] <= ended]
    if len(inside) < 3:
        sys.exit("Too few steps in a turn: give --seconds more.")
    (first, before), (last, after) = inside[0], inside[-1]
    return (after - before) / (last - first)


async def _poll(port: int, pollers: int, seconds: float) -> list[float]:
    """Every latency, in seconds."""
    until = time.monotonic() + seconds
    found = await asyncio.gather(*(_poller(port, until) for _ in range(pollers)))
    return [latency for each in found for latency in each]


async def _poller(port: int, until: float) -> list[float]:
    latencies, marks = [], ""
    await asyncio.sleep(random.random())
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.monotonic() < until:
        began = time.monotonic()
        writer.write(f"GET /pulse?{marks} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        body = await reader.readexactly(length)
        latencies.append(time.monotonic() - began)
        if body:
            marks = body[10 : body.index(b'"', 10)].decode()
        await asyncio.sleep(max(0, began + 1 - time.monotonic()))
    writer.close()
    return latencies


def _wait(ready: Callable[[], object], seconds: float) -> None:
    until = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > until:
            sys.exit("The server did not get ready in time.")
        time.sleep(0.2)


if __name__ == "__main__":
    main()
