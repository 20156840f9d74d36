"""The whole page behind its guard, driven as a program would, without a socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
from starlette.testclient import TestClient

from ftui.web import build_app


class StudioServer:
    """`client` asks, `studio` is what was mounted."""

    def __init__(self, client: TestClient, studio: gr.Blocks) -> None:
        self.client, self.studio = client, studio

    def run(self, function: Any, data: list[Any]) -> tuple[bool, Any]:
        """Whether it succeeded, and what was answered, by the way without a queue."""
        asked = {"data": data, "fn_index": function._id, "session_hash": "run"}
        answer = self.client.post("/gradio_api/run/predict", json=asked)
        return answer.status_code == 200, answer.json()

    def queue(self, function: Any, data: list[Any]) -> tuple[bool, Any]:
        """The same, by the page's own way."""
        asked = {"data": data, "fn_index": function._id, "session_hash": f"queue{function._id}"}
        joined = self.client.post("/gradio_api/queue/join", json=asked)
        if joined.status_code != 200:
            return False, joined.text
        return _ended(self.client.get(f"/gradio_api/queue/data?session_hash=queue{function._id}").text)

    def call(self, function: Any, data: list[Any]) -> tuple[bool, Any]:
        """The same, by the way of other programs."""
        path = f"/gradio_api/call/{function.api_name}"
        joined = self.client.post(path, json={"data": data})
        if joined.status_code != 200:
            return False, joined.text
        answer = self.client.get(f"{path}/{joined.json()['event_id']}").text
        return "event: error" not in answer, answer


def _ended(stream: str) -> tuple[bool, Any]:
    events = [json.loads(line.removeprefix("data: ")) for line in stream.splitlines() if line.startswith("data: ")]
    ended = next(event for event in events if event["msg"] == "process_completed")
    return ended["success"], ended["output"]


@contextmanager
def studio_server(runs: Path) -> Iterator[StudioServer]:
    guard = build_app(runs, None)
    studio = next(route.app.get_blocks() for route in guard.app.routes if hasattr(route, "app"))
    with TestClient(guard, base_url="http://127.0.0.1", follow_redirects=False) as client:
        yield StudioServer(client, studio)
