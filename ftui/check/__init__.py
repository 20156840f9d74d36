"""check: what a run would learn, what stands in its way and what it would cost. Trains nothing and loads no weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ftui.check.look import Look, look
from ftui.check.numbers import numbers, token_numbers
from ftui.check.report import REPORTS, report_csv, report_html, report_markdown, report_text, write_report
from ftui.check.sentences import facts
from ftui.check.suited import suited
from ftui.config import RunConfig
from ftui.device import Device, Lease
from ftui.rehearse import rehearse

__all__ = [
    "REPORTS",
    "Look",
    "check",
    "facts",
    "look",
    "numbers",
    "rehearsed",
    "report_csv",
    "report_html",
    "report_markdown",
    "report_text",
    "suited",
    "token_numbers",
    "write_report",
]


def check(config: RunConfig, report: Callable[[str], None] = print, device: Device | None = None) -> dict[str, Any]:
    """Everything known of a run before it starts, as plain values. UserError where not even that can be said."""
    return numbers(config, look(config, report), device)


def rehearsed(config: RunConfig, found: Look, lease: Lease, report: Callable[[str], None] = print) -> dict[str, Any]:
    """The plan, corrected by a rehearsal on this machine, as plain values. UserError where it cannot be rehearsed."""
    return rehearse(config, found.encoding, found.examples, lease, report).values()
