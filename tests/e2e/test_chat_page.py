"""The chat as two people meet it who write while a model answers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from ftui.runs import Run
from tests.e2e.conftest import ROOT, Server

WORDS = ["Send", "Stop", "Retry", "Clear"]
SLOWLY = """
import sys, time
sys.path.insert(0, {root!r})
from transformers import TextIteratorStreamer
from ftui.encoding import Encoding

put = TextIteratorStreamer.put

def slowly(self, value):
    time.sleep(0.04)
    put(self, value)

TextIteratorStreamer.put = slowly
Encoding.stop_token_ids = property(lambda self: [100_000])
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, finished_run: Run) -> Iterator[Server]:
    """A finished run on a tiny model, whose replies take ten seconds and end at their limit."""
    folder = tmp_path_factory.mktemp("chat")
    shutil.copytree(finished_run.path, folder / "runs" / finished_run.run_id)
    (folder / "slow").mkdir()
    (folder / "slow" / "sitecustomize.py").write_text(SLOWLY.format(root=str(ROOT)))
    running = Server(folder / "runs", PYTHONPATH=str(folder / "slow"))
    yield running
    running.kill()


def chatting(page: Page) -> Page:
    page.get_by_role("tab", name="Chat", exact=True).click()
    expect(page.locator("#send")).to_be_enabled()
    expect(page.locator("#halt")).to_be_disabled()
    return page


def send(page: Page, text: str) -> None:
    page.locator("#message textarea").fill(text)
    page.locator("#message textarea").press("Enter")


def is_answering(page: Page) -> None:
    expect(page.locator("#halt")).to_be_enabled()
    for button in ("#send", "#retry", "#clear"):
        expect(page.locator(button)).to_be_disabled()


def has_answered(page: Page) -> None:
    expect(page.locator("#send")).to_be_enabled()
    expect(page.locator("#retry")).to_be_enabled()
    expect(page.locator("#halt")).to_be_disabled()


def test_what_is_written_while_a_model_answers_is_not_lost_in_this_browser_nor_in_another(
    page: Page, browser: Browser, server: Server
) -> None:
    talk, message = chatting(page).locator("#conversation"), page.locator("#message textarea")
    context = browser.new_context(locale="en-US")
    other = context.new_page()
    other.goto(server.url)
    chatting(other)

    send(page, "The first one.")
    is_answering(page)
    expect(message).to_have_value("")
    send(page, "The second one.")
    send(other, "From elsewhere.")
    expect(other.locator(".toast-body").first).to_contain_text("answering in another window")
    expect(other.locator("#message textarea")).to_have_value("From elsewhere.")
    expect(other.locator("#conversation")).not_to_contain_text("From elsewhere.")
    has_answered(other)
    page.get_by_role("tab", name="Train", exact=True).click()
    page.get_by_role("tab", name="Chat", exact=True).click()
    page.wait_for_timeout(1000)  # the tab is drawn anew
    is_answering(page)

    expect(talk).to_contain_text("cut at 256 tokens")
    has_answered(page)
    expect(message).to_have_value("The second one.")
    expect(talk).not_to_contain_text("The second one.")
    message.press("Enter")
    expect(talk).to_contain_text("The second one.")
    is_answering(page)
    page.locator("#halt").click()
    has_answered(page)
    context.close()


def test_every_reply_says_which_model_of_which_run_it_is_from(page: Page) -> None:
    talk, models = chatting(page).locator("#conversation"), ["Fine-tuned (merged)", "Original", "checkpoint of step 3"]
    for model in models:
        page.get_by_label(model, exact=True).check()
        send(page, f"Ask the {model}.")
        expect(talk.locator("em").get_by_text(f"{model} ·")).to_be_visible()
        is_answering(page)
        page.locator("#halt").click()
        has_answered(page)
    told = [note.split(" · ") for note in talk.locator("em").all_text_contents()]
    assert [model for model, _ in told] == models
    title = page.locator("#chat_run input").input_value()
    assert all(run.endswith(title[-4:]) for _, run in told), "as the run is called in the list"


def test_a_mistake_in_the_middle_of_a_reply_leaves_the_chat_usable(page: Page) -> None:
    chatting(page).get_by_role("button", name="How it answers").click()
    page.wait_for_timeout(1000)
    longest = page.get_by_label("Longest reply (tokens)")
    for act in (lambda: send(page, "Hello."), page.locator("#retry").click):
        longest.fill("8192")
        longest.blur()
        act()
        expect(page.locator(".toast-body").first).to_contain_text("the model can read")
        has_answered(page)
        page.get_by_role("button", name="Close", exact=True).or_(page.locator(".toast-close")).first.click()
    longest.fill("2")
    longest.blur()
    page.locator("#retry").click()
    expect(page.locator("#conversation")).to_contain_text("cut at 2 tokens")


def test_an_empty_message_and_a_retry_of_nothing_change_nothing(page: Page) -> None:
    message = chatting(page).locator("#message textarea")
    message.fill("  ")
    for act in (page.locator("#send").click, page.locator("#retry").click, lambda: message.press("Enter")):
        act()
        page.wait_for_timeout(700)
        expect(message).to_have_value("  ")
        assert page.locator("button:is(#send, #halt, #retry, #clear)").all_inner_texts() == WORDS
