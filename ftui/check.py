"""check: what a run would learn, what stands in its way and what it would cost. Trains nothing and loads no weights."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ftui.config import FEWEST_ROWS, EvaluationSettings, RunConfig
from ftui.dataset import Rows, SplitSettings
from ftui.device import Device, Lease, this_device
from ftui.doctor import Examination, Problem, examine, suggested_epochs
from ftui.encoding import Encoding
from ftui.errors import UserError, listed
from ftui.examples import Examples, encoding_of, prepare
from ftui.models import config_of, model_folder
from ftui.plan import plan_of
from ftui.rehearse import rehearse
from ftui.template.placeholders import column_of
from ftui.train import check_possible

if TYPE_CHECKING:
    import numpy as np

BINS = 20
WORST = 10
SAMPLED = 2000
LISTED = 8
LABELS = 100
LONGEST_ROW = 1024  # beyond it a few rows would cost memory for all: 95 % of them are enough


class Look(NamedTuple):
    """A run before it starts: its rows, how they are encoded, what is wrong with them, and the model's config.json."""

    rows: Rows
    encoding: Encoding
    examples: Examples
    examined: Examination
    model_config: dict[str, Any]

    @property
    def problems(self) -> list[Problem]:
        return self.examined.problems

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.problems if problem.severity == "error"]


def look(config: RunConfig, report: Callable[[str], None] = print) -> Look:
    """Reads, renders, encodes and examines the rows; of the model only its small files. UserError when that cannot be done."""
    rows = config.dataset.load()
    base_dir = model_folder(config.base_model, config.revision, report=report, weights=False)
    encoding = encoding_of(config, base_dir)
    examples = prepare(config, encoding, rows)
    examined = examine(config, encoding, examples.rows, examples)
    return Look(examples.rows, encoding, examples, examined, config_of(base_dir))


def suited(config: RunConfig, rows: Rows) -> RunConfig:
    """`config` with what a preset chose for its own rows chosen for these: epochs, lengths, split, checks and watch prompts.

    Looks at the first 2,000 rows. UserError where the template does not fit them or the model cannot be had.
    """
    base_dir = model_folder(config.base_model, config.revision, report=lambda _: None, weights=False)
    model_config = config_of(base_dir)
    context = (model_config.get("text_config") or model_config).get("max_position_embeddings") or LONGEST_ROW
    encoding = encoding_of(config, base_dir)
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
        "messages": _message_numbers(config, found),
        "labels": _label_numbers(found.examined.labels),
        "columns": _column_names(config, found.rows),
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


def _message_numbers(config: RunConfig, found: Look) -> dict[str, float] | None:
    """How many messages a row has. None where the template alone says so, as it does of pairs and of text."""
    import numpy as np

    is_conversation = config.template.messages or config.template.history
    return _spread(np.sort(found.examined.messages)) if is_conversation else None


def _label_numbers(labels: dict[str, int]) -> dict[str, Any] | None:
    return {"different": len(labels), "commonest": dict(islice(labels.items(), LABELS))} if labels else None


def _column_names(config: RunConfig, rows: Rows) -> dict[str, list[str]]:
    """Columns that neither template nor split asks for, and those whose names are not plain small letters."""
    named = {column_of(name, rows.columns) for name in config.template.columns}
    named |= {config.split.stratify, config.split.group, config.split.column}
    return {
        "unused": [column for column in rows.columns if column not in named],
        "odd": [column for column in rows.columns if column != "".join(column.split()).lower()],
    }


def _plan(config: RunConfig, found: Look, device: Device | None, notes: list[str]) -> dict[str, Any] | None:
    with _noted(notes):
        check_possible(config)
    with _noted(notes):
        found.examples.check_trainable()
        planned = plan_of(config, found.examples, found.model_config, device or this_device())
        return planned.values()
    return None


@contextmanager
def _noted(notes: list[str]) -> Iterator[None]:
    """What stands in the way of a run is a note of what was checked."""
    try:
        yield
    except UserError as error:
        notes.append(str(error))


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

Tell = Callable[[str], str]  # a sentence of the core, as the reader's language says it


def report_markdown(found: dict[str, Any], tell: Tell = str) -> str:
    lines = [f"# {tell('What was checked')}", "", *(f"- {_plain(tell(line))}" for line in _numbers(found))]
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
    parts = [_numbers(found), problems or ["No problems were found."], found["notes"]]
    return "\n\n".join("\n".join(" ".join(line.split()) for line in part) for part in parts if part)


def report_html(found: dict[str, Any], tell: Tell = str) -> str:
    """One page without scripts and without anything from elsewhere."""

    def told(sentence: str) -> str:
        return escape(tell(sentence))

    numbers = "".join(f"<li>{told(line)}</li>" for line in _numbers(found))
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


def _numbers(found: dict[str, Any]) -> list[str]:
    splits, tokens = found["splits"], found["tokens"]
    lines = [
        f"{found['rows']:,} rows: {splits['train']:,} train, {splits['validation']:,} validation, {splits['test']:,} test.",
        f"{tokens['total']:,} tokens, {tokens['share']:.0%} of them learned.",
        f"Tokens a row: half have up to {tokens['p50']:,}, 95 % up to {tokens['p95']:,}, the longest {tokens['max']:,}; "
        f"{tokens['cut_rows']:,} rows are cut at {tokens['max_length']:,}.",
        *facts(found),
    ]
    return [*lines, found["plan"]["sentence"], found["plan"]["basis"]] if found["plan"] else lines


def facts(found: dict[str, Any]) -> list[str]:
    """What else there is to know of the rows, none of it a fault: how they are spread, their labels, their columns."""
    lines = [_spread_of("Learned tokens a row", found["tokens"]["spread"]["trained"])]
    if found["messages"]:
        lines.append(_spread_of("Messages a row", found["messages"]))
    if labels := found["labels"]:
        listed = _listed([f"“{label}” ({count:,})" for label, count in labels["commonest"].items()])
        lines.append(f"{labels['different']:,} different answers, most often: {listed}.")
    if unused := found["columns"]["unused"]:
        lines.append(f"Columns that neither template nor split uses: {_listed(unused)}. They are not learned.")
    if odd := found["columns"]["odd"]:
        lines.append(
            f"Column names with capitals or blanks: {_listed(odd)}. Later data and requests have to write them the same way."
        )
    return lines


def _spread_of(what: str, spread: dict[str, float]) -> str:
    return (
        f"{what}: {spread['min']:,} to {spread['max']:,}, {spread['mean']:,} on average; "
        f"a tenth up to {spread['p10']:,}, half up to {spread['p50']:,}, nine tenths up to {spread['p90']:,}."
    )


def _listed(names: list[str]) -> str:
    return listed(names, LISTED)


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
