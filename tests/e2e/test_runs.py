"""The Runs tab as a person meets it: a run is cloned, watched, asked at a checkpoint, deleted and brought back."""

from __future__ import annotations

import shutil

from playwright.sync_api import Browser, Page, expect

from ftui.runs import Run
from tests.e2e.conftest import MINUTE, Server


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def test_a_run_is_cloned_watched_asked_at_a_checkpoint_deleted_and_brought_back(
    page: Page, browser: Browser, server: Server, finished_run: Run
) -> None:
    shutil.copytree(finished_run.path, server.runs / finished_run.run_id)
    open_tab(page, "Train")
    page.get_by_label("Thorough").check()
    open_tab(page, "Runs")
    rows = page.locator("#runs tr[data-run]")
    expect(rows).to_have_count(1)
    expect(page.locator("#run_status")).to_contain_text(finished_run.run_id)

    page.locator("#run_clone").click()
    expect(page.get_by_role("tab", name="Train", exact=True)).to_have_attribute("aria-selected", "true")
    expect(page.get_by_label("Standard")).to_be_checked()  # else it would not be the same run
    page.locator("#start").click()
    anyway = page.locator("#anyway input")
    expect(page.locator("#status .phase b").or_(anyway)).to_be_visible()
    if anyway.is_visible():  # thirty rows are few, says the doctor
        anyway.check()
        page.locator("#start").click()
    expect(page.locator("#status")).not_to_contain_text(finished_run.run_id)
    expect(page.locator("#status .phase b")).to_have_text("Done", timeout=2 * MINUTE)

    open_tab(page, "Runs")
    expect(rows).to_have_count(2)
    new = rows.first.get_attribute("data-run")
    second = browser.new_context(locale="en-US").new_page()
    second.goto(server.url)
    open_tab(second, "Runs")
    expect(second.locator("#runs tr[data-run]")).to_have_count(2)

    rows.first.locator("button.open").press("Enter")
    expect(page.locator("#run_status")).to_contain_text(str(new))
    page.reload()
    open_tab(page, "Runs")
    expect(page.locator("#runs tr[aria-current]")).to_have_attribute("data-run", str(new))

    open_tab(page, "Checkpoints")
    page.get_by_role("button", name="Chat: 3").click()
    expect(page.get_by_label("checkpoint of step 3")).to_be_checked()
    page.locator("#message textarea").fill("What do you see? A red lamp.")
    page.locator("#message textarea").press("Enter")
    page.get_by_role("button", name="The exact prompt").click()  # what so small a model says may be nothing to see
    expect(page.locator("#exact")).to_contain_text("What do you see? A red lamp.", timeout=2 * MINUTE)

    open_tab(page, "Runs")
    page.locator("#run_delete").click()
    expect(page.locator("#question")).to_contain_text("to the trash")
    page.locator("#yes").click()
    expect(rows).to_have_count(1)
    expect(second.locator("#runs tr[data-run]")).to_have_count(1)
    expect(second.locator(".toast-body")).to_have_count(0)
    second.context.close()

    page.get_by_label("Show runs").click()
    page.get_by_role("option", name="Trash", exact=True).last.click()
    expect(rows).to_have_count(1)
    page.locator("#run_restore").click()
    expect(page.locator("#runs")).to_contain_text("The trash is empty")
    page.get_by_label("Show runs").click()
    page.get_by_role("option", name="All runs", exact=True).last.click()
    expect(rows).to_have_count(2)


def test_on_a_phone_a_checkpoint_is_within_reach_and_what_was_not_merged_is(
    browser: Browser, server: Server, finished_run: Run
) -> None:
    folder = shutil.copytree(finished_run.path, server.runs / "20990101-000000-phone-0001")  # the newest
    shutil.rmtree(folder / "merged")
    page = browser.new_context(locale="en-US", viewport={"width": 390, "height": 844}).new_page()
    page.goto(server.url)
    open_tab(page, "Runs")
    expect(page.locator("#run_status")).to_contain_text(folder.name)
    open_tab(page, "Checkpoints")
    last = page.get_by_role("button", name="New run from it: 3").bounding_box()
    assert last and last["x"] + last["width"] <= 390
    page.locator("#run_merge").click()
    expect(page.locator("#run_merge")).to_be_hidden(timeout=2 * MINUTE)
    expect(page.locator("#run_delete")).to_be_visible(timeout=2 * MINUTE)  # the work on it is over
    expect(page.locator("#run_merge")).to_be_hidden()
    assert (folder / "merged").is_dir()
    page.context.close()


def test_without_a_run_there_is_nothing_to_press(browser: Browser, tmp_path) -> None:
    server = Server(tmp_path / "runs")
    page = browser.new_context(locale="en-US", viewport={"width": 390, "height": 844}).new_page()
    try:
        page.goto(server.url)
        open_tab(page, "Runs")
        expect(page.locator("#runs")).to_contain_text("No run yet")
        expect(page.locator("#selected")).to_be_hidden()
        open_tab(page, "Chat")
        for button in ("#send", "#halt", "#retry", "#clear"):
            expect(page.locator(button)).to_be_disabled()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    finally:
        page.context.close()
        server.kill()
