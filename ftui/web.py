"""The web door: the studio at /, its sign-in, the guard of every request, and the server that runs them.

Only this machine's own address is open without a password.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import os
import secrets
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from ftui.errors import UserError

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
    from uvicorn import Server

    from ftui.background import BackgroundTrainer
    from ftui.ui import Pulse

COOKIE = "ftui_session"
SIGN_IN = "/sign-in"
PULSE = "/pulse"  # before Gradio, whose own events cost more than a page may cost a run
HEARTBEAT = "/gradio_api/heartbeat/"
MOST_SIGN_IN_BYTES = 4096
SIGN_IN_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>ftui</title>
<style>body{font:16px system-ui;display:grid;place-items:center;min-height:90vh;margin:0;background:#f8fafc;color:#0f172a}
form{background:#fff;border:1px solid #e2e8f0;border-radius:12px;padding:32px;display:grid;gap:14px;min-width:280px}
h1{margin:0;color:#4f46e5}input,button{font:inherit;padding:10px;border-radius:8px;border:1px solid #cbd5e1}
button{background:#4f46e5;color:#fff;border:0}p{margin:0;color:#b91c1c}</style>
<form method="post"><h1>ftui</h1><label for="password">Password · Contraseña</label>
<input id="password" type="password" name="password" autofocus autocomplete="current-password" required>
<button>Sign in · Entrar</button><p role="alert">{error}</p></form></html>"""
STRANGER = "Without a password ftui answers only under this machine's own name, such as 127.0.0.1. Set FTUI_PASSWORD to open it."
WRONG = "That is not the password. · Esa no es la contraseña."


def serve(runs_dir: Path, host: str, port: int, password: str | None = None) -> None:
    """Serves the page until it is stopped. UserError when it would be open to others without a password."""
    import uvicorn

    from ftui.doorway import KEEP_ALIVE, doorway

    password = password or os.environ.get("FTUI_PASSWORD")
    if not is_loopback(host) and not password:
        raise UserError(
            f"The page would be open to everybody on {host}. Set FTUI_PASSWORD (a secret, on a Space), or serve on 127.0.0.1."
        )
    sys.setswitchinterval(0.0005)  # a Python thread at work otherwise holds every request up for 5 ms a turn
    give_way()
    app = build_app(runs_dir, password)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            http=doorway(app.pulse),
            log_level="warning",
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=3,
        )
    )
    threading.Thread(target=_announce, args=(server, host, port), daemon=True).start()
    server.run()


def give_way() -> None:
    """Lets this thread, which answers, and those it begins wait for a core that is free or for the end of a slice.

    By default whatever wakes pushes the training off its core at once, and a step's threads wait for each other. Linux
    alone can do it.
    """
    with suppress(AttributeError, OSError):  # another system, or a container that forbids it
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def build_app(runs_dir: Path, password: str | None) -> Guard:
    """The page behind its guard, with everything that all sessions share."""
    import gradio as gr
    from fastapi import FastAPI
    from starlette.middleware.cors import CORSMiddleware

    from ftui.background import BackgroundTrainer
    from ftui.backup import backup_of
    from ftui.chat import ChatModel
    from ftui.device import Lease
    from ftui.runs import RunStore
    from ftui.ui import CSS, THEME, Pulse, build_studio, catalog

    store, lease = RunStore(runs_dir.resolve()), Lease()
    backup = backup_of(os.environ.get("FTUI_BACKUP"))
    if backup:
        backup.bring_all(store)
    trainer = BackgroundTrainer(store, lease, backup)
    trainer.take_back()
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=_saving_at_the_end(trainer))
    pulse = Pulse()
    studio = build_studio(store, trainer, ChatModel(lease), pulse, restart)
    gr.mount_gradio_app(
        app,
        studio,
        path="/",
        run_history=False,
        ssr_mode=False,
        show_error=False,
        max_file_size="200mb",
        footer_links=["settings"],
        i18n=catalog(),
        theme=THEME,
        css=CSS,
    )
    app.add_middleware(CORSMiddleware, allow_origins=[])  # gradio repeats any Origin unless the app has its own rule
    return Guard(app, password, pulse)


def restart() -> None:
    """Begins this process anew in its own place, without a supervisor; a broken context of the GPU ends with the old one."""
    os.execv(sys.executable, sys.orig_argv)


def _saving_at_the_end(trainer: BackgroundTrainer) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """A Space that goes to sleep sends SIGTERM and waits 30 seconds: time to save the run at work."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(trainer.shut_down)

    return lifespan


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Guard:
    """Refuses requests that another site sends, Gradio's open proxy, and, with a password, everybody who has not signed in.

    It stands before everything else: the pulse, asked for by every open page each second, passes this alone.
    """

    def __init__(self, app: ASGIApp, password: str | None, pulse: Pulse) -> None:
        self.app, self.pulse = app, pulse
        self.password = password
        self.sessions: set[str] = set()
        self._guessing = asyncio.Semaphore(4)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.requests import Request
        from starlette.responses import PlainTextResponse, RedirectResponse, Response

        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return
        path = unquote(scope["path"]).lower()
        if not self.password and not _is_this_machine(_header(scope, b"host")):  # a name rebound to this machine
            return await PlainTextResponse(STRANGER, 403)(scope, receive, send)
        if _is_cross_site(scope) or _is_proxy(path):
            return await PlainTextResponse("Refused: this request comes from another site.", 403)(scope, receive, send)
        if path == "/health":
            return await PlainTextResponse("ok")(scope, receive, send)
        if self.password and path == SIGN_IN:
            return await (await self._sign_in(Request(scope, receive)))(scope, receive, send)
        if self.password and Request(scope).cookies.get(COOKIE) not in self.sessions:
            refused = RedirectResponse(SIGN_IN, 303) if path == "/" else PlainTextResponse("Sign in first.", 401)
            return await refused(scope, receive, send)
        if path == PULSE:
            return await self.pulse(scope, receive, send)
        if path.startswith(HEARTBEAT):  # would hold one of the six connections that a browser has for all its tabs
            return await Response(status_code=204)(scope, receive, send)
        return await self.app(scope, receive, _with_headers(send))

    async def _sign_in(self, request: Request) -> Response:
        from starlette.responses import HTMLResponse, RedirectResponse

        if request.method != "POST":
            return HTMLResponse(SIGN_IN_PAGE.replace("{error}", ""))
        if int(request.headers.get("content-length") or MOST_SIGN_IN_BYTES + 1) > MOST_SIGN_IN_BYTES:
            return HTMLResponse(SIGN_IN_PAGE.replace("{error}", WRONG), 413)
        said = parse_qs((await request.body()).decode("utf-8", "replace")).get("password", [""])[0]
        async with self._guessing:
            if not hmac.compare_digest(said.encode(), str(self.password).encode()):
                await asyncio.sleep(1)  # guessing shall take long
                return HTMLResponse(SIGN_IN_PAGE.replace("{error}", WRONG), 401)
        session = secrets.token_urlsafe(32)
        self.sessions.add(session)
        response = RedirectResponse("/", 303)
        response.headers.append("set-cookie", f"{COOKIE}={session}; Path=/; HttpOnly; {_where_sent(request)}")
        return response


def _where_sent(request: Request) -> str:
    """Hugging Face shows a Space in a frame of another site, where browsers keep a cookie only if it is set for that."""
    if "SPACE_ID" in os.environ:
        return "Secure; SameSite=None; Partitioned"
    is_safe = "https" in (request.url.scheme, request.headers.get("x-forwarded-proto"))
    return "Secure; SameSite=Lax" if is_safe else "SameSite=Lax"


@lru_cache(64)
def _is_this_machine(host: str) -> bool:
    """Whether a Host header names this machine itself."""
    try:
        return is_loopback(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return False


def _is_cross_site(scope: Scope) -> bool:
    """A writing request whose Origin is not this host, as a browser knows it. One without Origin comes from a program.

    A site cannot set X-Forwarded-Host: it would have to ask before, and is refused.
    """
    if scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return False
    origin = _header(scope, b"origin")
    hosts = {_header(scope, b"host"), _header(scope, b"x-forwarded-host")} - {""}
    foreign = bool(origin) and origin.partition("://")[2] not in hosts  # "null" names no host
    return foreign or _header(scope, b"sec-fetch-site") == "cross-site"


def _header(scope: Scope, name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def _is_proxy(path: str) -> bool:
    return any(mark in path for mark in ("/proxy=", "/file=http", "/file/http"))


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [
                *message["headers"],
                (b"x-content-type-options", b"nosniff"),
                (b"referrer-policy", b"same-origin"),
            ]
        await send(message)

    return sending


def _announce(server: Server, host: str, port: int) -> None:
    """Says where the page is once it answers, then loads the heavy libraries, so that nobody waits for them."""
    import time

    while not server.started:
        if server.should_exit:
            return
        time.sleep(0.05)
    print(f"ftui is at http://{host}:{port}", flush=True)

    from ftui.models import starter_folder
    from ftui.models.load import quiet

    quiet()
    try:
        starter_folder()  # in a fresh container nobody has fetched it yet
    except UserError as error:
        print(f"ftui: {error}", flush=True)
    import peft  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401
    import trl  # noqa: F401
