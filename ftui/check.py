"""check: what a run would learn, what stands in its way and what it would cost. Trains nothing and loads no weights."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ftui.config import FEWEST_ROWS, EvaluationSettings, RunConfig
from ftui.dataset import Rows, SplitSettings
from ftui.device import Device, Lease, this_device
from ftui.doctor import Problem, examine, suggested_epochs
from ftui.encoding import Encoding
from ftui.errors import UserError
from ftui.examples import Examples, prepare
from ftui.models import load_tokenizer, model_folder
from ftui.models.facts import read_json
from ftui.plan import plan_of
from ftui.rehearse import rehearse

if TYPE_CHECKING:
    import numpy as np

BINS = 20
WORST = 10
SAMPLED = 2000
LONGEST_ROW = 1024  # beyond it a few rows would cost memory for all: 95 % of them are enough


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


def suited(config: RunConfig, rows: Rows) -> RunConfig:
    """`config` with what a preset chose for its own rows chosen for these: epochs, lengths, split, checks and watch prompts.

    Looks at the first 2,000 rows. UserError where the template does not fit them or the model cannot be had.
    """
    base_dir = model_folder(config.base_model, config.revision, report=lambda _: None, weights=False)
    model_config = read_json(base_dir / "config.json")
    context = (model_config.get("text_config") or model_config).get("max_position_embeddings") or LONGEST_ROW
    encoding = Encoding(load_tokenizer(base_dir), config.chat_template)
    whole = config.training.model_copy(update={"max_length": context})
    split = SplitSettings(seed=config.split.seed)
    if 3 * FEWEST_ROWS <= len(rows) < 10 * FEWEST_ROWS:  # a tenth, the usual share, is too few for a verdict
        split = split.model_copy(update={"test": FEWEST_ROWS})
    config = config.model_copy(update={"split": split, "training": whole, "watch_prompts": ()})
    sample = prepare(config, encoding, rows.take(range(min(len(rows), SAMPLED))))
    sample.check_trainable()
    lengths = token_numbers(sample, context)
    longest = lengths["max"] if lengths["max"] <= LONGEST_ROW else lengths["p95"]
    answers = [16, *(int(part.trained.max(initial=0)) for part in sample.parts.values() if not config.template.text)]
    training = {
        "num_train_epochs": suggested_epochs(len(sample.train) * len(rows) // len(sample.rows)),
        "max_steps": -1,
        "max_length": min(_rounded(1.1 * longest, 64), context),
        "eval_steps": 0.2,
    }
    evaluation = EvaluationSettings(
        baselines=config.evaluation.baselines,
        max_new_tokens=min(_rounded(max(answers) * 5 / 4, 16), LONGEST_ROW),
    )
    return config.model_copy(update={"training": whole.model_copy(update=training), "evaluation": evaluation})


def _rounded(length: float, to: int) -> int:
    """Up to the next multiple."""
    return int(-(-length // to)) * to


def check(config: RunConfig, report: Callable[[str], None] = print, device: Device | None = None) -> dict[str, Any]:
    """Everything known of a run before it starts, as plain values. UserError where not even that can be said."""
    return numbers(config, look(config, report), device)


def rehearsed(config: RunConfig, found: Look, lease: Lease, report: Callable[[str], None] = print) -> dict[str, Any]:
    """The plan, corrected by a rehearsal on this machine, as plain values. UserError where it cannot be rehearsed."""
    return rehearse(config, found.encoding, found.examples, lease, report).values()


def numbers(config: RunConfig, found: Look, device: Device | None = None) -> dict[str, Any]:
    """What was found, as plain values (design 4.1)."""
    notes = [*found.rows.notes, *found.encoding.notes]
    return {
        "rows": len(found.rows),
        "splits": {name: len(part) for name, part in found.examples.parts.items()},
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
        found.examples.check_trainable()
        planned = plan_of(config, found.examples, found.model_config, device or this_device())
    except UserError as error:
        notes.append(str(error))
        return None
    return planned.values()


def token_numbers(examples: Examples, max_length: int) -> dict[str, Any]:
    """What is learned, over all usable rows. `total` and `trained` count what is left after the cut, lengths what was there before."""
    import numpy as np

    numbers, kept, trained, cut = (
        np.concatenate([getattr(part, name) for part in examples.parts.values()])
        for name in ("numbers", "lengths", "trained", "cut")
    )
    whole = kept + cut
    lengths = np.sort(whole)
    total = int(kept.sum())
    cut_rows = int((cut > 0).sum())
    return {
        "total": total,
        "trained": int(trained.sum()),
        "share": round(int(trained.sum()) / max(total, 1), 4),
        "max": int(lengths[-1]) if len(lengths) else 0,
        "p95": _quantile(lengths, 0.95),
        "p50": _quantile(lengths, 0.5),
        "max_length": max_length,
        "cut_rows": cut_rows,
        "lost": int(cut.sum()),
        "nothing_learned": len(examples.left_out),
        "spread": {"tokens": _spread(lengths), "trained": _spread(np.sort(trained))},
        "histogram": _histogram(lengths),
        "worst": {
            "longest": _worst(numbers, whole, WORST),
            "most_cut": _worst(numbers, cut, min(WORST, cut_rows)),
            "nothing_learned": [left.row for left in examples.left_out[:WORST]],
        },
    }


def _worst(numbers: np.ndarray, amounts: np.ndarray, count: int) -> list[int]:
    """The rows with the largest amounts, of equal ones the earlier in the data's parts."""
    return numbers[(-amounts).argsort(kind="stable")[:count]].tolist()


def _quantile(ordered: np.ndarray, share: float) -> int:
    """The smallest length that at least this share of the rows does not exceed."""
    return int(ordered[max(0, -(-len(ordered) * round(share * 100) // 100) - 1)]) if len(ordered) else 0


def _spread(ordered: np.ndarray) -> dict[str, float]:
    """What OpenAI's data preparation tells of a distribution; its outer numbers, called p5 and p95 there, are p10 and p90."""
    mean = round(float(ordered.mean()), 1) if len(ordered) else 0
    ends = {"min": int(ordered[0]), "max": int(ordered[-1])} if len(ordered) else {"min": 0, "max": 0}
    return ends | {"mean": mean} | {f"p{share}": _quantile(ordered, share / 100) for share in (10, 50, 90)}


def _histogram(ordered: np.ndarray) -> list[dict[str, int]]:
    """Rows by length, in up to 20 bins of equal width; `to` belongs to its bin."""
    import numpy as np

    if not len(ordered):
        return []
    width = -(-int(ordered[-1]) // BINS)
    counts = np.bincount((ordered - 1) // width).tolist()
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
    if found["notes"]:
        lines += ["", "## Notes", "", *(f"- {_plain(note)}" for note in found["notes"])]
    return "\n".join(lines) + "\n"


def report_text(found: dict[str, Any]) -> str:
    """For a terminal: sentences as they are, without markup."""
    problems = [
        f"{problem['severity']}: {problem['message']} ({problem['code']}, {problem['count']:,})"
        for problem in found["problems"]
    ]
    parts = [_numbers(found), problems or ["No problems were found."], found["notes"]]
    return "\n\n".join("\n".join(" ".join(line.split()) for line in part) for part in parts if part)


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


def report_csv(found: dict[str, Any]) -> str:
    """The problems as a table. No cell begins as a formula does: spreadsheets would carry it out."""
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["severity", "code", "count", "message", "rows"])
    for problem in found["problems"]:
        rows = " ".join(str(row + 1) for row in problem["rows"])
        cells = (problem["severity"], problem["code"], str(problem["count"]), problem["message"], rows)
        table.writerow(f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell for cell in cells)
    return text.getvalue()


def _numbers(found: dict[str, Any]) -> list[str]:
    splits, tokens = found["splits"], found["tokens"]
    lines = [
        f"{found['rows']:,} rows: {splits['train']:,} train, {splits['validation']:,} validation, {splits['test']:,} test.",
        f"{tokens['total']:,} tokens, {tokens['share']:.0%} of them learned.",
        f"Tokens a row: half have up to {tokens['p50']:,}, 95 % up to {tokens['p95']:,}, the longest {tokens['max']:,}; "
        f"{tokens['cut_rows']:,} rows are cut at {tokens['max_length']:,}.",
        "Learned tokens a row: {min:,} to {max:,}, {mean:,} on average; a tenth up to {p10:,}, half up to {p50:,}, "
        "nine tenths up to {p90:,}.".format(**tokens["spread"]["trained"]),
    ]
    return [*lines, found["plan"]["sentence"], found["plan"]["basis"]] if found["plan"] else lines


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no table border."""
    flat = " ".join(text.split())
    return escape("".join(f"\\{letter}" if letter in "\\`*_[]#|~!" else letter for letter in flat), quote=False)


REPORTS = {"html": report_html, "md": report_markdown, "csv": report_csv}


def write_report(found: dict[str, Any], path: Path) -> Path:
    """A report in the form that the file's ending asks for. UserError for an ending that none has."""
    kind = path.suffix.lower().removeprefix(".")
    if kind not in REPORTS:
        raise UserError(f"{path.name}: a report is a file that ends in .html, .md or .csv.")
    path.write_text(REPORTS[kind](found), encoding="utf-8")
    return path
