"""The doorway: uvicorn's, with a short way for what every open page asks each second.

A parser, a task and an ASGI call cost the processor that trains four times what the answer does. The same headers on the
same connection are those of a sender whom the guard has let in, so for a while the question is answered right here. Where
somebody should look for what is new, it goes the long way, and now and then it does so to meet the guard again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ftui.ui.pulse import IN_SPANISH

if TYPE_CHECKING:
    import asyncio

    from ftui.ui import Pulse

SHORT_SECONDS = 20
KEEP_ALIVE = 75  # a page that nobody sees asks once a minute, and keeps its connection
QUESTION, VERSION, END = b"GET /pulse?", b" HTTP/1.1", b"\r\n\r\n"
BODIES = {b"content-length", b"transfer-encoding"}  # what stands behind the headers is not read on the short way
UNCHANGED = b"HTTP/1.1 204 No Content\r\ncache-control: no-store\r\n\r\n"
CHANGED = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncache-control: no-store\r\ncontent-length: %d\r\n\r\n"


def doorway(pulse: Pulse) -> type[asyncio.Protocol]:
    """The protocol of uvicorn's connections (its `http`)."""
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    class Doorway(HttpToolsProtocol):
        asked = known = b""  # the headers of the last question, and those that were let in
        until, spanish = 0.0, False

        def data_received(self, data: bytes) -> None:
            line, _, headers = data.partition(b"\r\n")
            if not line.startswith(QUESTION) or data.find(END) != len(data) - len(END):  # not one whole question
                headers = b""
            elif headers == self.known and line.endswith(VERSION) and time.monotonic() < self.until:
                body = pulse.at_once(line[len(QUESTION) : -len(VERSION)].decode("latin-1"), self.spanish)
                if body is not None:
                    self.transport.write(CHANGED % len(body) + body if body else UNCHANGED)
                    return
            self.asked, self.known = headers, b""
            super().data_received(data)

        def on_response_complete(self) -> None:
            state, names = self.scope["state"], {name for name, _ in self.scope["headers"]}
            if self.asked and IN_SPANISH in state and not names & BODIES:
                self.known, self.until = self.asked, time.monotonic() + SHORT_SECONDS
                self.spanish = state[IN_SPANISH]
            super().on_response_complete()

    return Doorway
