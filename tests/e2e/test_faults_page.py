"""What the page survives: reloads, many tabs, a server that is killed, impatient fingers, a GPU that is gone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from ftui.config import RunConfig
from ftui.runs import Run, RunStore
from tests import tiny
from tests.e2e.conftest import MINUTE, ROOT, Server

POISON = """
import sys
sys.path.insert(0, {root!r})
import ftui.loop

def _loop(*arguments):
    raise RuntimeError("CUDA error: device-side assert triggered")

ftui.loop._loop = _loop
"""


def prepared_run(folder: Path, base: Path) -> Run:
    """A run on a tiny model that would go on for a long while, interrupted before it began."""
    values = tiny.values(base, folder)
    values["training"] |= {"max_steps": 100_000, "eval_steps": 100_000}
    run = RunStore(folder / "runs").create(RunConfig.parse(values))
    run.end("interrupted", "For the test.")
    return run


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("faults")
    prepared_run(folder, tiny_model)
    running = Server(folder / "runs")
    yield running
    running.kill()


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    opened = browser.new_context(locale="en-US")
    yield opened
    opened.close()


def opened(context: BrowserContext, server: Server) -> Page:
    page = context.new_page()
    page.set_default_timeout(2 * MINUTE)
    page.goto(server.url)
    return train_tab(page)


def train_tab(page: Page) -> Page:
    """The page on its Train tab, wherever it opened."""
    page.get_by_role("tab", name="Train", exact=True).click()
    return page


def resumed(context: BrowserContext, server: Server) -> Page:
    """A page that has made the run go on."""
    page = opened(context, server)
    page.locator("#resume").click()
    phase(page, "Training")
    return page


def phase(page: Page, name: str) -> None:
    expect(page.locator("#status .phase b")).to_have_text(name, timeout=2 * MINUTE)


def step(page: Page) -> int:
    """The step that the page shows, once it shows one."""
    numbers = page.locator("#status .numbers")
    expect(numbers).to_contain_text(re.compile(r"step \d+"), timeout=2 * MINUTE)
    return int(re.search(r"step (\d+)", numbers.inner_text())[1])


def test_ten_reloads_and_more_tabs_than_a_browser_has_connections_show_one_run_that_goes_on(
    context: BrowserContext, server: Server
) -> None:
    page = resumed(context, server)
    reached = step(page)
    for _ in range(10):
        page.reload()
        train_tab(page)
        assert step(page) >= reached
        reached = step(page)
    tabs = [page, *(opened(context, server) for _ in range(6))]
    for tab in tabs:
        assert step(tab) >= reached
    tabs[-1].locator("#stop").click()
    for tab in tabs:
        phase(tab, "Stopped")
    assert len({tab.locator("#status .numbers").inner_text() for tab in tabs}) == 1
    (run,) = RunStore(server.runs).list()
    assert [event.data["state"] for event in run.events() if event.type == "state"].count("training") == 1
    for tab in tabs:
        tab.close()


def test_a_page_that_stays_open_while_the_server_is_killed_takes_up_the_run_again(
    context: BrowserContext, server: Server
) -> None:
    page = resumed(context, server)
    server.kill()
    server.start()
    expect(page.locator("#status .phase b")).to_have_text("Interrupted")
    page.locator("#resume").click()
    phase(page, "Training")
    page.locator("#stop").click()
    phase(page, "Stopped")
    page.close()


def test_a_queue_that_waited_when_the_server_was_killed_is_back_and_begins_with_a_click(
    context: BrowserContext, tmp_path: Path, tiny_model: Path
) -> None:
    interrupted = prepared_run(tmp_path, tiny_model)
    waiting = [RunStore(tmp_path / "runs").create(interrupted.config) for _ in range(2)]
    server = Server(tmp_path / "runs")
    try:
        page = opened(context, server)
        phase(page, "Interrupted")
        expect(page.locator("#status")).to_contain_text(interrupted.run_id)
        expect(page.locator("#resume")).to_be_visible()
        expect(page.locator("#rests")).to_contain_text("These runs waited when ftui ended")
        page.get_by_role("button", name="Take out").click()
        expect(page.get_by_text("Choose one of the runs that wait.")).to_be_visible()
        for run in reversed(waiting):  # the second one up, and the first one up again
            page.locator(f"#waiting input[value='{run.run_id}']").check()
            page.get_by_role("button", name="Move up").click()
            expect(page.locator("#waiting input").first).to_have_value(run.run_id)
            page.wait_for_timeout(1500)  # a pulse later
            expect(page.locator("#waiting input:checked")).to_have_value(run.run_id)
        page.locator("#go_on").click()
        phase(page, "Training")
        expect(page.locator("#status")).to_contain_text(waiting[0].run_id)
        expect(page.locator("#go_on")).to_be_hidden()
        expect(page.locator("#waiting")).to_be_visible()
        expect(page.locator("#queue")).to_be_in_viewport()
        expect(page.locator("#waiting")).to_be_in_viewport(ratio=1)  # whoever adds a run there sees that it waits
        page.route("**/pulse*", lambda route: route.abort())
        waiting[0].stop()
        while waiting[1].state != "training":
            page.wait_for_timeout(100)
        page.locator("#stop").click()  # of a page that does not know yet that the run it shows has ended
        expect(page.locator("#status")).to_contain_text(waiting[1].run_id)
        assert not waiting[1].stop_wanted and waiting[1].state == "training"
        page.unroute("**/pulse*")
        page.locator("#stop").click()
        phase(page, "Stopped")
        assert waiting[1].state == "stopped"
        page.close()
    finally:
        server.kill()


def test_twenty_quick_clicks_on_start_in_five_tabs_make_one_run(context: BrowserContext, server: Server) -> None:
    before = len(RunStore(server.runs).list())
    tabs = [opened(context, server) for _ in range(5)]
    for tab in tabs:
        expect(tab.locator("#start")).to_be_enabled()
    for tab in tabs:
        tab.evaluate("for (let click = 0; click < 4; click++) document.querySelector('#start').click()")
    for tab in tabs:
        expect(tab.locator("#start")).to_be_disabled(timeout=2 * MINUTE)
        phase(tab, "Preparing")
    assert len(RunStore(server.runs).list()) == before + 1
    for tab in tabs:
        tab.close()


def test_the_run_at_work_is_thrown_away_after_a_question_and_only_after_a_yes(
    context: BrowserContext, server: Server
) -> None:
    (run, *_) = RunStore(server.runs).list()
    page = opened(context, server)
    page.locator("#discard").click()
    expect(page.locator("#train_question")).to_contain_text("throw it away")
    expect(page.locator("#train_no")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#train_ask")).to_be_hidden()
    expect(page.locator("#discard")).to_be_focused()
    page.locator("#discard").click()
    expect(page.locator("#train_no")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(page.locator("#train_yes")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#status")).not_to_contain_text(run.run_id, timeout=2 * MINUTE)
    phase(page, "Stopped")  # the run before it
    assert run.run_id in [thrown.run_id for thrown in RunStore(server.runs).trashed()]
    expect(page.locator("#discard")).to_be_hidden()
    page.close()


def test_a_poisoned_gpu_puts_a_banner_over_the_page_until_ftui_is_restarted_from_it(
    context: BrowserContext, tmp_path: Path, tiny_model: Path
) -> None:
    prepared_run(tmp_path, tiny_model)
    (tmp_path / "poison").mkdir()
    (tmp_path / "poison" / "sitecustomize.py").write_text(POISON.format(root=str(ROOT)))
    server = Server(tmp_path / "runs", PYTHONPATH=str(tmp_path / "poison"))
    try:
        page = opened(context, server)
        page.locator("#resume").click()
        phase(page, "Failed")
        expect(page.get_by_role("alert").first).to_contain_text("restart ftui")
        page.locator("#resume").click()
        expect(page.locator(".toast-body").first).to_contain_text("restart ftui")
        page.locator("#restart").click()
        expect(page.locator("#trouble")).not_to_contain_text("restart ftui")
        expect(page.locator("#restart")).to_be_hidden()
        assert RunStore(server.runs).find("last").state == "failed"
    finally:
        server.kill()
