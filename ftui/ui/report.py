"""The report in HTML: base beside tuned on held-out rows, and the merge beside what was trained. Knows no component."""

from __future__ import annotations

from html import escape
from typing import Any

from ftui.evaluate import headline, is_exact, metric_sentence
from ftui.proof import differs, merge_sentence
from ftui.runs import Run
from ftui.ui.language import Voice
from ftui.ui.run_html import reply_html, short_html

SHOWN_ROWS = 12


def proof_html(run: Run, voice: Voice) -> str:
    """Base beside tuned on held-out rows, and the merge compared with what was trained."""
    report = run.read_json("report.json")
    return report_html(report, voice("Base beside tuned"), voice, run.read_json("proof.json")) if report else ""


def report_html(report: dict[str, Any], title: str, voice: Voice, proof: dict[str, Any] | None = None) -> str:
    """One report: the verdict, the numbers of both systems, and the first answers beside each other."""
    base, tuned, difference = report["systems"]["zero_shot"], report["systems"]["tuned"], report["difference"]
    numbers = ""
    is_judged_exactly = report["metric"] == "exact_match"
    for name, key, decimals in (("Loss", "loss", 3), ("exact matches", "exact_match", 0)):
        if base[key] is not None and (key == "loss" or is_judged_exactly):
            cells = [
                f"{value:.0%}" if key == "exact_match" else voice.number(value, decimals)
                for value in (base[key], tuned[key])
            ]
            numbers += f"<tr><th scope='row'>{escape(voice(name))}</th><td>{cells[0]}</td><td>{cells[1]}</td></tr>"
    table = f"<table class='grid small'><tr><th></th><th>{escape(voice('base'))}</th><th>{escape(voice('tuned'))}</th></tr>{numbers}</table>"
    basis = voice(
        "{rows} rows kept out of training, greedy decoding, both models in the precision of training.",
        rows=report["rows"],
    )
    spread = _spread(report["metric"], difference, voice)
    judged, kept = voice.known(metric_sentence(report)), voice.known(report.get("kept", ""))
    merged = voice.known(merge_sentence(proof)) if proof else ""
    head = "".join(f"<th scope='col'>{escape(voice(name))}</th>" for name in ("Question", "Expected", "Base", "Tuned"))
    examples = sorted(report["examples"], key=_is_right) if is_judged_exactly else report["examples"]  # mistakes first
    rows = "".join(_proof_row(example, voice, is_judged_exactly) for example in examples[:SHOWN_ROWS])
    shown = voice("{shown} of {of} rows are shown.", shown=min(SHOWN_ROWS, len(examples)), of=len(examples))
    wrong = sum(not _is_right(example) for example in examples)
    if is_judged_exactly and wrong:
        mistakes = "{wrong} of {of} tuned answers are not exactly as expected; they come first."
        shown = f"{voice(mistakes, wrong=wrong, of=len(examples))} {shown}"
    told = f"<p class='quiet'>{escape(shown)}</p><table class='grid stacks'><tr>{head}</tr>{rows}</table>"
    return (
        f"<div class='card'><h3>{escape(title)}</h3><p class='verdict'>{escape(voice.known(headline(report)))}</p>{table}"
        f"<p class='quiet'>{escape(judged)} {escape(basis)} {escape(spread)}</p><p class='quiet'>{escape(kept)}</p>"
        f"<p class='{'bad' if differs(proof) else 'quiet'}'>{escape(merged)}</p>"
        f"{told if examples else ''}</div>"
    )


def _spread(metric: str, difference: dict[str, float], voice: Voice) -> str:
    """How far apart base and tuned are, in the unit of the table above it."""
    if metric == "exact_match":
        words, unit, decimals = "Difference {mean} percentage points, 95 % interval {low} to {high}.", 100, 0
    else:
        words, unit, decimals = "Loss lower by {mean}, 95 % interval {low} to {high}.", 1, 3
    return voice(words, **{key: voice.number(difference[key] * unit, decimals) for key in ("mean", "low", "high")})


def _is_right(example: dict[str, Any]) -> bool:
    return is_exact(example["tuned"], example["expected"])


def _proof_row(example: dict[str, Any], voice: Voice, is_judged_exactly: bool) -> str:
    right = "" if not is_judged_exactly else "right" if _is_right(example) else "wrong"
    cells = ""
    for name, key, mark in (("Expected", "expected", ""), ("Base", "zero_shot", ""), ("Tuned", "tuned", right)):
        cells += f"<td class='{mark}' data-label='{escape(voice(name))}'>{reply_html(example[key], 200, voice)}</td>"
    return f"<tr><th scope='row'>{short_html(example['prompt'], 160)}</th>{cells}</tr>"
