"""check: what a run would learn, what stands in its way and what it would cost. Trains nothing and loads no weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import escape
from typing import Any, NamedTuple

from ftui.config import RunConfig
from ftui.dataset import Rows
from ftui.device import Device, this_device
from ftui.doctor import Problem, examine, suggested_epochs
from ftui.encoding import Encoding
from ftui.errors import UserError
from ftui.examples import PARTS, Example, Examples, prepare
from ftui.models import load_tokenizer, model_folder
from ftui.plan import plan_of

BINS = 20
WORST = 10


class Look(NamedTuple):
    """A run before it starts: its rows, how they are encoded, what is wrong with them, and the model's config.json."""

    rows: Rows
    encoding: Encoding
    examples: Examples
    problems: list[Problem]
    model_config: dict[str, Any]

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity == "error"]


def look(config: RunConfig, report: Callable[[str], None] = print) -> Look:
    """Reads, renders, encodes and examines the rows; of the model only its small files. UserError when that cannot be done."""
    rows = config.dataset.load()
    base_dir = model_folder(config.base_model, config.revision, report=report, weights=False)
    encoding = Encoding(load_tokenizer(base_dir), config.chat_template)
    examples = prepare(config, encoding, rows)
    problems = examine(config, encoding, examples.rows, examples)
    return Look(examples.rows, encoding, examples, problems, json.loads((base_dir / "config.json").read_text("utf-8")))


def check(config: RunConfig, report: Callable[[str], None] = print, device: Device | None = None) -> dict[str, Any]:
    """Everything known of a run before it starts, as plain values. UserError where not even that can be said."""
    return numbers(config, look(config, report), device)


def numbers(config: RunConfig, found: Look, device: Device | None = None) -> dict[str, Any]:
    """What was found, as plain values (design 4.1)."""
    notes = [*found.rows.notes, *found.encoding.notes]
    return {
        "rows": len(found.rows),
        "splits": {part: len(getattr(found.examples, part)) for part in PARTS},
        "problems": [_as_values(problem) for problem in found.problems],
        "tokens": token_numbers(found.examples, config.training.max_length),
        "plan": _plan(config, found, device, notes),
        "suggested_epochs": suggested_epochs(len(found.examples.train)),
        "notes": notes,
    }


def _as_values(problem: Problem) -> dict[str, Any]:
    return {
        "code": problem.code,
        "severity": problem.severity,
        "count": problem.count,
        "rows": problem.rows,
        "message": problem.message,
        "fix": problem.fix and problem.fix.title,
    }


def _plan(config: RunConfig, found: Look, device: Device | None, notes: list[str]) -> dict[str, Any] | None:
    try:
        planned = plan_of(config, found.examples, found.model_config, device or this_device())
    except UserError as error:
        notes.append(str(error))
        return None
    return {**planned._asdict(), "sentence": planned.sentence}


def token_numbers(examples: Examples, max_length: int) -> dict[str, Any]:
    """What is learned, over all usable rows. `total` and `trained` count what is left after the cut, lengths what was there before."""
    every = [example for part in PARTS for example in getattr(examples, part)]
    lengths = sorted(map(_length, every))
    total = sum(len(example.encoded.input_ids) for example in every)
    trained = sum(example.encoded.trained for example in every)
    cut = sorted((example for example in every if example.encoded.cut), key=lambda example: -example.encoded.cut)
    return {
        "total": total,
        "trained": trained,
        "share": round(trained / max(total, 1), 4),
        "max": lengths[-1],
        "p95": _quantile(lengths, 0.95),
        "p50": _quantile(lengths, 0.5),
        "max_length": max_length,
        "cut_rows": len(cut),
        "lost": sum(example.encoded.cut for example in cut),
        "nothing_learned": len(examples.left_out),
        "histogram": _histogram(lengths),
        "worst": {
            "longest": [example.row for example in sorted(every, key=_length, reverse=True)[:WORST]],
            "most_cut": [example.row for example in cut[:WORST]],
            "nothing_learned": [left.row for left in examples.left_out[:WORST]],
        },
    }


def _length(example: Example) -> int:
    return len(example.encoded.input_ids) + example.encoded.cut


def _quantile(ordered: list[int], share: float) -> int:
    """The smallest length that at least this share of the rows does not exceed."""
    return ordered[max(0, -(-len(ordered) * round(share * 100) // 100) - 1)]


def _histogram(lengths: list[int]) -> list[dict[str, int]]:
    """Rows by length, in up to 20 bins of equal width; `to` belongs to its bin."""
    width = -(-lengths[-1] // BINS)
    counts = [0] * -(-lengths[-1] // width)
    for length in lengths:
        counts[(length - 1) // width] += 1
    return [{"from": place * width + 1, "to": (place + 1) * width, "rows": count} for place, count in enumerate(counts)]


# the report to download


def report_markdown(found: dict[str, Any]) -> str:
    lines = ["# What was checked", "", *(f"- {line}" for line in map(_plain, _numbers(found))), "", "## Problems", ""]
    if found["problems"]:
        lines += ["| | Code | Rows | What and what to do |", "|---|---|---:|---|"]
    for problem in found["problems"]:
        cells = (problem["severity"], problem["code"], str(problem["count"]), problem["message"])
        lines.append("| " + " | ".join(map(_plain, cells)) + " |")
    if not found["problems"]:
        lines.append("None were found.")
    lines += ["", "## Notes", "", *(f"- {_plain(note)}" for note in found["notes"] or ["None."])]
    return "\n".join(lines) + "\n"


def report_html(found: dict[str, Any]) -> str:
    """One page without scripts and without anything from elsewhere."""
    numbers = "".join(f"<li>{escape(line)}</li>" for line in _numbers(found))
    problems = "".join(
        f"<tr class={escape(problem['severity'])}><td>{escape(problem['severity'])}<td>{escape(problem['code'])}"
        f"<td>{problem['count']:,}<td>{escape(problem['message'])}</tr>"
        for problem in found["problems"]
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in found["notes"])
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>What was checked</title>"
        "<style>body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "td,th{text-align:left;vertical-align:top;padding:.3rem .8rem .3rem 0;border-bottom:1px solid #ddd}"
        ".error td:first-child{color:#b00020;font-weight:600}</style>"
        f"<h1>What was checked</h1><ul>{numbers}</ul><h2>Problems</h2>"
        + (
            f"<table><tr><th><th>Code<th>Rows<th>What and what to do</tr>{problems}</table>"
            if problems
            else "<p>None were found.</p>"
        )
        + (f"<h2>Notes</h2><ul>{notes}</ul>" if notes else "")
        + "</html>\n"
    )


def _numbers(found: dict[str, Any]) -> list[str]:
    splits, tokens = found["splits"], found["tokens"]
    lines = [
        f"{found['rows']:,} rows: {splits['train']:,} train, {splits['validation']:,} validation, {splits['test']:,} test.",
        f"{tokens['total']:,} tokens, {tokens['share']:.0%} of them learned.",
        f"Tokens a row: half have up to {tokens['p50']:,}, 95 % up to {tokens['p95']:,}, the longest {tokens['max']:,}; "
        f"{tokens['cut_rows']:,} rows are cut at {tokens['max_length']:,}.",
    ]
    return [*lines, found["plan"]["sentence"], found["plan"]["basis"]] if found["plan"] else lines


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no table border."""
    flat = " ".join(text.split())
    return escape("".join(f"\\{letter}" if letter in "\\`*_[]#|~!" else letter for letter in flat), quote=False)
