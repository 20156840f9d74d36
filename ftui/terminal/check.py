"""check: what a run would learn, and what stands in its way."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ftui.terminal.arguments import Commands, add_command, add_config, config_of

SHAPES = ("openai", "sharegpt", "alpaca", "prompt-completion")  # as in shapes.py, which --help does not wait for


def add_check(commands: Commands) -> None:
    added = add_command(commands, "check", check, "what a run would learn, and what stands in its way; trains nothing")
    added.add_argument("--report", type=Path, metavar="FILE", help="write what was found as .html, .md or .csv")
    added.add_argument("--export", type=Path, metavar="DIR", help="write the prepared rows, a file for each part")
    added.add_argument("--shape", choices=SHAPES, default="openai", help="of the exported rows; openai if not said")
    added.add_argument("--rehearse", action="store_true", help="run a few real steps and correct the plan by them")
    add_config(added)


def check(options: argparse.Namespace) -> dict[str, Any]:
    from ftui.check import look, numbers, rehearsed, report_text, write_report
    from ftui.device import Lease
    from ftui.shapes import write_parts

    config = config_of(options)
    looked = look(config)
    found = numbers(config, looked)
    if options.rehearse:
        found["plan"] = rehearsed(config, looked, Lease())
    if options.report:
        write_report(found, options.report)
    if options.export:
        options.export.mkdir(parents=True, exist_ok=True)
        written = write_parts(looked.examples, options.shape, options.export)
        found["exported"] = written.sentence
    if not options.json:
        print(report_text(found))
        if options.export:
            print(f"\n{found['exported']}")
    return found
