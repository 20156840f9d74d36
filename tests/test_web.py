"""The guard: who may pass, by which cookie, and how often one may guess."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from ftui.web import COOKIE, Guard


@pytest.fixture
def client() -> TestClient:
    """A browser before an app that is behind a password."""
    page = Route("/{path:path}", lambda request: PlainTextResponse("the page"))
    guard = Guard(Starlette(routes=[page]), "a secret", None)
    return TestClient(guard, base_url="https://space.example", follow_redirects=False)


def sign_in(client: TestClient, password: str = "a secret", **headers: str):
    return client.post("/sign-in", data={"password": password}, headers=headers)


def test_who_has_signed_in_may_pass_and_nobody_else(client):
    assert client.get("/").status_code == 303 and client.get("/config").status_code == 401
    assert sign_in(client, "a guess").status_code == 401
    assert sign_in(client).status_code == 303
    assert client.get("/").text == "the page"


def test_in_the_frame_that_hugging_face_shows_a_space_in_the_cookie_is_kept(client, monkeypatch):
    assert "SameSite=Lax" in sign_in(client).headers["set-cookie"]
    monkeypatch.setenv("SPACE_ID", "ana/tuner")
    cookie = sign_in(client).headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=") and cookie.endswith("HttpOnly; Secure; SameSite=None; Partitioned")


def test_behind_a_proxy_that_names_the_host_otherwise_its_own_pages_pass_and_others_do_not(client):
    proxied = {"host": "127.0.0.1:7860", "x-forwarded-host": "tuner.example"}
    assert sign_in(client, origin="https://tuner.example", **proxied).status_code == 303
    for foreign in ("https://evil.example", "null"):
        assert sign_in(client, origin=foreign, **proxied).status_code == 403
        assert sign_in(client, origin=foreign).status_code == 403


@pytest.mark.parametrize("body", [b"", b"password", b"\xff\xfe=1", b"--x\r\nbroken"])
def test_a_form_that_is_none_is_a_wrong_password(client, body):
    kind = {"content-type": "multipart/form-data; boundary=x"}
    assert client.post("/sign-in", content=body, headers=kind).status_code == 401


def test_guesses_take_turns(client):
    began = time.monotonic()
    with client, ThreadPoolExecutor(8) as pool:
        assert [each.status_code for each in pool.map(lambda _: sign_in(client, "a guess"), range(8))] == [401] * 8
    assert time.monotonic() - began > 1.9, "four at a time, a second each"
