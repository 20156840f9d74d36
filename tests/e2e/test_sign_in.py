"""Who may see the page: nobody without the password, and no other site with it."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.conftest import ROOT, Server


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("guarded") / "runs", FTUI_PASSWORD="open sesame")
    yield running
    running.kill()


def status(url: str, method: str = "GET", **headers: str) -> int:
    request = urllib.request.Request(url, method=method, headers=headers, data=b"" if method == "POST" else None)
    try:
        return urllib.request.urlopen(request).status
    except urllib.error.HTTPError as error:
        return error.code


def test_on_any_address_but_this_machines_own_ftui_refuses_to_start_without_a_password() -> None:
    environment = {key: value for key, value in os.environ.items() if key != "FTUI_PASSWORD"} | {"FTUI_HOST": "0.0.0.0"}
    done = subprocess.run(
        [sys.executable, "app.py"], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "FTUI_PASSWORD" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_page_asks_for_the_password_and_opens_with_it(browser: Browser, guarded: Server) -> None:
    page = browser.new_context(locale="en-US").new_page()
    page.goto(guarded.url)
    page.get_by_label("Password").fill("guess")
    page.get_by_role("button").click()
    expect(page.get_by_role("alert")).to_contain_text("not the password")
    page.get_by_label("Password").fill("open sesame")
    page.get_by_role("button").click()
    expect(page.get_by_role("tab", name="Train", exact=True)).to_be_visible()
    page.context.close()


@pytest.mark.parametrize(
    "path",
    ["config", "gradio_api/info", "gradio_api/queue/join", "gradio_api/upload", "gradio_api/startup-events", "pulse"],
)
def test_without_signing_in_nothing_answers(guarded: Server, path: str) -> None:
    assert status(guarded.url + path) == 401
    assert status(guarded.url + path, "POST") == 401


def test_another_site_cannot_make_the_page_do_anything(server: Server) -> None:
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        assert status(server.url + "gradio_api/queue/join", "POST", Origin=origin) == 403


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/proxy=http://example.org",
        "gradio_api/file=http://example.org",
        "gradio_api/file%3Dhttp://example.org",
    ],
)
def test_the_page_fetches_nothing_for_strangers(server: Server, path: str) -> None:
    assert status(server.url + path) == 403


def test_a_name_that_was_rebound_to_this_machine_is_refused_without_a_password(server: Server, guarded: Server) -> None:
    assert status(server.url, Host="evil.example") == 403
    assert status(guarded.url + "sign-in", Host="space.example") == 200
