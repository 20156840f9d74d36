"""The pulse: every open page gets what changed and nothing else, and all of them together cost one drawing."""

from __future__ import annotations

import asyncio
import json
import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from types import SimpleNamespace

import gradio as gr
import pytest
import uvicorn
from gradio.state_holder import SessionState

from ftui.background import be_nice
from ftui.doorway import doorway
from ftui.ui.pulse import Pulse
from ftui.web import give_way


@pytest.fixture
def shown() -> SimpleNamespace:
    """What a page of three parts is drawn from; `drawn` counts the drawings."""
    return SimpleNamespace(step=0, drawn=0)


@pytest.fixture
def pulse(shown) -> Pulse:
    def draw(voice) -> list:
        shown.drawn += 1
        label = "paso" if voice.spanish else "step"
        return [f"{label} {shown.step}", "always the same", gr.Button(visible=shown.step > 1)]

    pulse = Pulse()
    with gr.Blocks() as studio:
        pulse.watch([gr.HTML(), gr.HTML(), gr.Button()], lambda: shown.step, draw)
        pulse.attach(studio)
    return pulse


async def asked(pulse: Pulse, marks: str = "", language: str = "en") -> tuple[int, dict]:
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"query_string": marks.encode(), "headers": [(b"accept-language", language.encode())], "state": {}}
    await pulse(scope, None, send)
    return sent[0]["status"], json.loads(sent[1]["body"] or "{}")


def rested(pulse: Pulse) -> None:
    """As if the time to look again had come."""
    pulse._views = {language: view._replace(due=0) for language, view in pulse._views.items()}


def test_a_page_gets_everything_once_then_nothing_until_something_changes(pulse, shown):
    async def page():
        status, first = await asked(pulse)
        assert (status, first["parts"]["0"], first["parts"]["1"]) == (200, "step 0", "always the same")
        assert await asked(pulse, first["marks"]) == (204, {})
        shown.step = 2
        rested(pulse)
        status, second = await asked(pulse, first["marks"])
        assert (status, second["parts"]) == (200, {"0": "step 2", "2": {"visible": True, "__type__": "update"}})
        assert await asked(pulse, second["marks"]) == (204, {})

    asyncio.run(page())


def test_a_hundred_pages_are_drawn_once(pulse, shown):
    async def pages():
        await asked(pulse)
        shown.step = 1
        rested(pulse)
        answers = await asyncio.gather(*(asked(pulse) for _ in range(100)))
        assert {status for status, _ in answers} == {200}

    asyncio.run(pages())
    assert shown.drawn == 2


def test_nothing_is_looked_up_again_before_its_time(pulse, shown):
    async def page():
        _, first = await asked(pulse)
        shown.step = 1
        assert await asked(pulse, first["marks"]) == (204, {})

    asyncio.run(page())


def test_gradio_draws_up_the_config_of_all_components_once_and_not_at_every_look(pulse, shown, monkeypatch):
    made = []
    real = SessionState.__init__
    monkeypatch.setattr(SessionState, "__init__", lambda self, blocks: made.append(self) or real(self, blocks))

    async def page():
        for shown.step in range(3):
            rested(pulse)
            await asked(pulse)
            await asked(pulse, language="es")

    asyncio.run(page())
    assert shown.drawn == 6 and len(made) == 1


def test_a_page_that_a_click_has_drawn_over_gets_what_is_true_now(pulse, shown):
    async def page():
        await asked(pulse)
        shown.step = 1
        _, answer = await asked(pulse)  # the click made it forget its marks
        assert answer["parts"]["0"] == "step 1"

    asyncio.run(page())


def test_marks_of_another_page_or_of_none_bring_everything(pulse):
    async def page():
        for marks in ("", "a.b", "a.b.c", "%00", "x" * 5000):
            status, answer = await asked(pulse, marks)
            assert status == 200 and len(answer["parts"]) == 3

    asyncio.run(page())


def test_each_page_is_answered_in_its_language(pulse):
    async def pages():
        (_, english), (_, spanish) = await asked(pulse), await asked(pulse, language="es-ES,es;q=0.9")
        assert (english["parts"]["0"], spanish["parts"]["0"]) == ("step 0", "paso 0")

    asyncio.run(pages())


@pytest.fixture
def port(pulse) -> Iterator[int]:
    """A real server with the pulse behind its doorway; `pulse.asked` counts the questions that went the long way."""
    pulse.asked = 0

    async def app(scope, receive, send):
        pulse.asked += 1
        await pulse(scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(app, port=0, http=doorway(pulse), log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


def test_a_page_that_was_let_in_is_answered_on_the_short_way_but_when_somebody_should_look(pulse, shown, port):
    def ask(connection: HTTPConnection, marks: str = "") -> tuple[int, dict]:
        connection.request("GET", f"/pulse?{marks}")
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or "{}")

    def restless(due: float) -> None:
        pulse._views = {language: view._replace(due=due) for language, view in pulse._views.items()}

    page, other = HTTPConnection("127.0.0.1", port), HTTPConnection("127.0.0.1", port)
    marks = ask(page)[1]["marks"]
    restless(due=math.inf)
    assert [ask(page, marks)[0] for _ in range(5)] == [204] * 5
    assert pulse.asked == 1
    assert ask(other, marks)[0] == 204
    assert pulse.asked == 2, "another connection has to show itself first"
    shown.step = 1
    restless(due=0)
    marked = ask(page, marks)[1]
    restless(due=math.inf)
    assert marked["parts"] == {"0": "step 1"}
    assert ask(other, marks) == (200, marked), "others get it without a look"
    assert ask(page, marked["marks"]) == (204, {})
    assert pulse.asked == 3
    page.close(), other.close()


def test_what_stands_behind_a_question_is_never_taken_for_the_next_one(pulse, port):
    question = b"GET /pulse?marks HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 66\r\n\r\n"
    assert len(question) == 66
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(question)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 OK")
        connection.sendall(question)  # the body of the first
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(4096)


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="Linux alone lets a thread give way")
def test_the_threads_that_answer_give_way_to_the_one_that_trains():
    policies = []

    def answer() -> None:
        give_way()
        policies.append(os.sched_getscheduler(0))
        training = threading.Thread(target=train)
        training.start()
        training.join()

    def train() -> None:
        be_nice()
        policies.append(os.sched_getscheduler(0))

    thread = threading.Thread(target=answer)
    thread.start()
    thread.join()
    assert policies == [os.SCHED_BATCH, os.SCHED_OTHER]
