"""A real server in a process of its own, and a real Chromium."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

ROOT = Path(__file__).parents[2]
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MINUTE = 60_000
CUT_OFF = ("ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "network error", "Connection errored out")

expect.set_options(timeout=MINUTE)  # other tests may have the machine


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "e2e" in str(item.path):
            item.add_marker(pytest.mark.browser)


class Server:
    """The page at `url`, its runs in `runs`; can be killed and started again on the same port."""

    def __init__(self, runs: Path, **environment: str) -> None:
        self.runs = runs
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.was_killed = False
        self.environment = {**os.environ, "FTUI_PORT": str(self.port), "FTUI_RUNS": str(runs), **environment}
        self.start()

    def start(self) -> None:
        log = (self.runs.parent / "server.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=ROOT, env=self.environment, stdout=log, stderr=log
        )
        for _ in range(240):
            try:
                urllib.request.urlopen(self.url + "health", timeout=2)
                return
            except OSError:
                time.sleep(0.25)
        raise TimeoutError((self.runs.parent / "server.log").read_text()[-2000:])

    def kill(self) -> None:
        self.was_killed = True
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("page") / "runs")
    yield running
    running.kill()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    """A fresh page in English; after each test it has met no error and asked no other host for anything."""
    context = browser.new_context(locale="en-US", viewport={"width": 1360, "height": 900})
    opened = context.new_page()
    errors: list[str] = []
    hosts: set[str] = set()
    opened.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    opened.on(
        "request", lambda request: hosts.add(request.url.split("/")[2]) if request.url.startswith("http") else None
    )
    opened.goto(server.url)
    opened.wait_for_selector("#tabs")
    yield opened
    expected = ("status of 4", *(CUT_OFF if server.was_killed else ()))
    assert not [error for error in errors if not any(known in error for known in expected)]
    assert hosts <= {f"127.0.0.1:{server.port}"}
    context.close()
