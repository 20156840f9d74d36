"""The pulse: what every open page asks for once a second, looked up and drawn once for all of them.

A page sends the marks of the parts that it shows and gets those that differ; most answers are empty. It stands outside
Gradio's events, whose timer costs the processor that trains 10 ms a tick and a page; this costs a fraction of one.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, NamedTuple

import gradio as gr
import orjson
from gradio.state_holder import SessionState

from ftui.ui.language import Voice

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

REST_SECONDS = 0.25  # between two looks, however many pages ask
MOST_ANSWERS = 32
REST_SHARE = 50  # and a look may take one part in fifty of a core, however long the run
ASK = """async () => {
  const sent = window.ftui_marks ?? "";
  const mark = away => document.getElementById("away")?.classList.toggle("away", away);
  try {
    const answer = await fetch("pulse?" + sent, {cache: "no-store"});
    mark(answer.status >= 500);
    if (answer.status == 401) location.reload();  // the server has forgotten who signed in
    if (answer.status != 200) return [];
    const {marks, parts} = await answer.json();
    if (sent != (window.ftui_marks ?? "")) return [];  // a click has drawn meanwhile, and this may be older
    window.ftui_marks = marks;
    return Array.from({length: marks.split(".").length}, (_, index) => parts[index]);
  } catch {  // the server is away, and the page says so; the next tick asks again
    mark(true);
    return [];
  }
}"""
FORGET = "() => { window.ftui_marks = ''; }"

IN_SPANISH = "ftui.spanish"  # in the state of a request that the pulse has answered: whether in Spanish

Key = Callable[[], Hashable]
Draw = Callable[[Voice], list[Any]]


class View(NamedTuple):
    """The page in one language: each part as JSON with its mark, what it was drawn from; when that was looked up, and when
    to look again; and the answers so far, by the marks that a page had."""

    key: Hashable
    marks: tuple[str, ...]
    parts: tuple[bytes, ...]
    looked: float
    due: float
    answers: dict[str, bytes]

    def changes(self, shown: str) -> bytes:
        """All marks, and the parts that differ from those shown; nothing where none does."""
        if shown not in self.answers:
            marks = shown.split(".")
            changed = [
                index for index, mark in enumerate(self.marks) if len(marks) != len(self.marks) or marks[index] != mark
            ]
            parts = b",".join(b'"%d":%s' % (index, self.parts[index]) for index in changed)
            body = b'{"marks":"%s","parts":{%s}}' % (".".join(self.marks).encode(), parts) if changed else b""
            if len(self.answers) >= MOST_ANSWERS:  # marks that nobody was given
                return body
            self.answers[shown] = body
        return self.answers[shown]


class Pulse:
    """`watch` says what is drawn, `attach` lets a page ask for it, and the object itself answers, as an ASGI application."""

    def __init__(self) -> None:
        self._watched: list[tuple[list[Any], Key, Draw]] = []
        self._views: dict[bool, View] = {}
        self._looking = asyncio.Lock()
        self._studio: gr.Blocks | None = None
        self._session: SessionState | None = None

    def watch(self, outputs: list[Any], key: Key, draw: Draw) -> None:
        """Draws `outputs` anew whenever `key` has changed. Both run outside the event loop."""
        self._watched.append((outputs, key, draw))

    def attach(self, studio: gr.Blocks) -> None:
        """Within the Blocks, after everything is watched: the timer of each page."""
        outputs = [each for outputs, _, _ in self._watched for each in outputs]
        others = [index for index, function in studio.fns.items() if {*function.outputs} & {*outputs}]
        tick = gr.Timer(1).tick(None, outputs=outputs, js=ASK, show_progress="hidden", api_visibility="private")
        self._studio, self._event = studio, tick["id"]
        for index in others:  # what a click has drawn over is not what the marks say
            gr.events.Dependency(None, {}, index, None).then(
                None, js=FORGET, show_progress="hidden", api_visibility="private"
            )

    def at_once(self, shown: str, spanish: bool) -> bytes | None:
        """The body for a page with these marks, empty where nothing changed; None where somebody should look first."""
        view = self._views.get(spanish)
        return view.changes(shown) if shown and view and self._is_fresh(view) else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        shown, spanish = scope["query_string"].decode("latin-1"), _speaks_spanish(scope)
        # A page without marks has just been loaded, or a click has drawn over it: it must not get what was before.
        body = (await self._view(spanish, 0 if shown else time.monotonic())).changes(shown)
        scope["state"][IN_SPANISH] = spanish
        headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
        length = [(b"content-length", str(len(body)).encode())] if body else []
        await send({"type": "http.response.start", "status": 200 if body else 204, "headers": headers + length})
        await send({"type": "http.response.body", "body": body})

    async def _view(self, spanish: bool, since: float) -> View:
        """The last view, if it was looked up after `since`."""
        view = self._views.get(spanish)
        if view and view.looked >= since and self._is_fresh(view):
            return view
        async with self._looking:
            view = self._views.get(spanish)
            if not view or view.looked < since or time.monotonic() >= view.due:
                began = time.monotonic()
                view, took = await self._look(view, Voice.of(spanish))
                view = view._replace(looked=began, due=time.monotonic() + max(REST_SECONDS, REST_SHARE * took))
                self._views[spanish] = view
        return view

    def _is_fresh(self, view: View) -> bool:
        """While somebody looks, the others make do with what there is."""
        return time.monotonic() < view.due or self._looking.locked()

    async def _look(self, view: View | None, voice: Voice) -> tuple[View, float]:
        """The view, and the processor's seconds for it: beside a training a look waits far longer than it works."""
        key, looking = await asyncio.to_thread(_timed, lambda: [key() for _, key, _ in self._watched])
        if view and key == view.key:
            return view, looking
        drawn, drawing = await asyncio.to_thread(
            _timed, lambda: [part for _, _, draw in self._watched for part in draw(voice)]
        )
        assert self._studio is not None
        # Without a session Gradio makes one for each call, with the config of every component: 20 ms of the loop.
        self._session = self._session or SessionState(self._studio)
        sent = await self._studio.postprocess_data(self._studio.fns[self._event], drawn, self._session)
        parts = tuple(orjson.dumps(part, default=str, option=orjson.OPT_SERIALIZE_NUMPY) for part in sent)
        marks = tuple(hashlib.blake2b(part, digest_size=4).hexdigest() for part in parts)
        return View(key, marks, parts, 0, 0, {}), looking + drawing


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What `work` returns, and how long the processor worked on it."""
    began = time.thread_time()
    return work(), time.thread_time() - began


def _speaks_spanish(scope: Scope) -> bool:
    return any(name == b"accept-language" and value.lower().startswith(b"es") for name, value in scope["headers"])
