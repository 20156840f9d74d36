"""The report of what was found, to keep and to send on. Whatever stands in the rows is shown as it stands, and obeyed nowhere."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from ftui.check.sentences import sentences
from ftui.errors import UserError

Tell = Callable[[str], str]  # a sentence of the core, as the reader's language says it


def report_markdown(found: dict[str, Any], tell: Tell = str) -> str:
    lines = [f"# {tell('What was checked')}", "", *(f"- {_plain(tell(line))}" for line in sentences(found))]
    lines += ["", f"## {tell('Problems')}", ""]
    if found["problems"]:
        lines += [f"| | {tell('Code')} | {tell('Rows')} | {tell('What and what to do')} |", "|---|---|---:|---|"]
    for problem in found["problems"]:
        cells = (tell(problem["severity"]), problem["code"], str(problem["count"]), tell(problem["message"]))
        lines.append("| " + " | ".join(map(_plain, cells)) + " |")
    if not found["problems"]:
        lines.append(tell("None were found."))
    if found["notes"]:
        lines += ["", f"## {tell('Notes')}", "", *(f"- {_plain(tell(note))}" for note in found["notes"])]
    return "\n".join(lines) + "\n"


def report_text(found: dict[str, Any]) -> str:
    """For a terminal: sentences as they are, without markup."""
    problems = [
        f"{problem['severity']}: {problem['message']} ({problem['code']}, {problem['count']:,})"
        for problem in found["problems"]
    ]
    parts = [sentences(found), problems or ["No problems were found."], found["notes"]]
    return "\n\n".join("\n".join(" ".join(line.split()) for line in part) for part in parts if part)


def report_html(found: dict[str, Any], tell: Tell = str) -> str:
    """One page without scripts and without anything from elsewhere."""

    def told(sentence: str) -> str:
        return escape(tell(sentence))

    numbers = "".join(f"<li>{told(line)}</li>" for line in sentences(found))
    problems = "".join(
        f"<tr class={escape(problem['severity'])}><td>{told(problem['severity'])}<td>{escape(problem['code'])}"
        f"<td>{problem['count']:,}<td>{told(problem['message'])}</tr>"
        for problem in found["problems"]
    )
    heads = "".join(f"<th>{told(name)}" for name in ("Code", "Rows", "What and what to do"))
    notes = "".join(f"<li>{told(note)}</li>" for note in found["notes"])
    return (
        f"<!doctype html><html lang={told('en')}><meta charset=utf-8><title>{told('What was checked')}</title>"
        "<style>body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "td,th{text-align:left;vertical-align:top;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #ddd}"
        ".error td:first-child{color:#b00020;font-weight:600}</style>"
        f"<h1>{told('What was checked')}</h1><ul>{numbers}</ul><h2>{told('Problems')}</h2>"
        + (f"<table><tr><th>{heads}</tr>{problems}</table>" if problems else f"<p>{told('None were found.')}</p>")
        + (f"<h2>{told('Notes')}</h2><ul>{notes}</ul>" if notes else "")
        + "</html>\n"
    )


def report_csv(found: dict[str, Any], tell: Tell = str) -> str:
    """The problems as a table. No cell begins as a formula does: spreadsheets would carry it out."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["severity", "code", "count", "message", "rows"])
    for problem in found["problems"]:
        rows = " ".join(str(row + 1) for row in problem["rows"])
        cells = (problem["severity"], problem["code"], str(problem["count"]), tell(problem["message"]), rows)
        table.writerow(f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell for cell in cells)
    return text.getvalue()


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no table border."""
    flat = " ".join(text.split())
    return escape("".join(f"\\{letter}" if letter in "\\`*_[]#|~!" else letter for letter in flat), quote=False)


REPORTS = {"html": report_html, "md": report_markdown, "csv": report_csv}


def write_report(found: dict[str, Any], path: Path, tell: Tell = str) -> Path:
    """A report in the form that the file's ending asks for. UserError for an ending that none has."""
    kind = path.suffix.lower().removeprefix(".")
    if kind not in REPORTS:
        raise UserError(f"{path.name}: a report is a file that ends in .html, .md or .csv.")
    path.write_text(REPORTS[kind](found, tell), encoding="utf-8")
    return path
