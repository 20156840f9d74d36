"""Page: what the tabs stand on."""

from __future__ import annotations

from typing import NamedTuple

import gradio as gr

from ftui.ui.pulse import Pulse


class Page(NamedTuple):
    """`tabs` can be turned to another tab; `kept` is the form, in the browser; `pulse` draws what changes by itself."""

    studio: gr.Blocks
    tabs: gr.Tabs
    kept: gr.BrowserState
    pulse: Pulse
