"""The pulse: every open page gets what changed and nothing else, and all of them together cost one drawing."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import gradio as gr
import pytest

from ftui.ui.pulse import Pulse


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

    scope = {"query_string": marks.encode(), "headers": [(b"accept-language", language.encode())]}
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
