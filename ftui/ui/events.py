"""How the page's events are carried out: the flags that they share, and the core's errors as the page tells them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

import gradio as gr
from gradio.context import LocalContext

from ftui.errors import UserError
from ftui.ui.language import Voice

PRIVATE: dict[str, Any] = {"api_visibility": "private"}  # kept out of the list of the API; it protects nothing
AT_ONCE: dict[str, Any] = {**PRIVATE, "queue": False}
UNSEEN: dict[str, Any] = {**PRIVATE, "show_progress": "hidden"}
BRIEFLY: dict[str, Any] = {**PRIVATE, "show_progress": "minimal"}
QUIET: dict[str, Any] = {**AT_ONCE, **UNSEEN}
ONCE: dict[str, Any] = {"trigger_mode": "once"}  # a second click while the first is worked on is none
LATEST: dict[str, Any] = {"trigger_mode": "always_last"}  # of quick changes the last one is what is shown


def tell(error: UserError) -> gr.Error:
    """The core's sentence as the page shows it, in the language of whoever asked."""
    said = Voice(LocalContext.request.get(None)).mistakes(error)
    return gr.Error(escape(said, quote=False), duration=20, print_exception=False)


@contextmanager
def telling() -> Iterator[None]:
    """Within it, what is wrong is told in the page, and the event ends there.

    Only an event of the queue can tell: of one outside it Gradio's page drops the sentence.
    """
    try:
        yield
    except UserError as error:
        raise tell(error) from None
