"""The report in HTML: base beside tuned on held-out rows, and the merge beside what was trained. Knows no component."""

from __future__ import annotations

from html import escape
from typing import Any

from ftui.evaluate import FEWEST_ROWS, is_exact
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
    sentence = {
        "better": "The tuned model is better than the base on held-out rows.",
        "worse": "The tuned model is worse than the base on held-out rows.",
        "not better": "The tuned model is not shown to be better than the base.",
        "too few rows": "Too few held-out rows ({rows}) for a verdict; it takes 20.",
    }[report["verdict"]]
    if report["verdict"] == "too few rows" and report.get("limit", FEWEST_ROWS) < FEWEST_ROWS:
        sentence = "A quick check: it works. {rows} rows show no more than that; a verdict takes 20."
    base, tuned, difference = report["systems"]["zero_shot"], report["systems"]["tuned"], report["difference"]
    numbers = ""
    for name, key, decimals in (("Loss", "loss", 3), ("exact matches", "exact_match", 0)):
        if base[key] is not None:
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
    merged = _merge_sentence(proof, voice) if proof else ""
    head = "".join(f"<th scope='col'>{escape(voice(name))}</th>" for name in ("Question", "Expected", "Base", "Tuned"))
    examples = sorted(report["examples"], key=_is_right)  # the mistakes first
    rows = "".join(_proof_row(example, voice) for example in examples[:SHOWN_ROWS])
    shown = voice("{shown} of {of} rows are shown.", shown=min(SHOWN_ROWS, len(examples)), of=len(examples))
    wrong = sum(not _is_right(example) for example in examples)
    if report["metric"] == "exact_match" and wrong:
        mistakes = "{wrong} of {of} tuned answers are not exactly as expected; they come first."
        shown = f"{voice(mistakes, wrong=wrong, of=len(examples))} {shown}"
    told = f"<p class='quiet'>{escape(shown)}</p><table class='grid stacks'><tr>{head}</tr>{rows}</table>"
    return (
        f"<div class='card'><h3>{escape(title)}</h3><p class='verdict'>{escape(voice(sentence, rows=report['rows']))}</p>{table}"
        f"<p class='quiet'>{escape(basis)} {escape(spread)}</p><p class='quiet'>{escape(merged)}</p>"
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


def _merge_sentence(proof: dict[str, Any], voice: Voice) -> str:
    if "not_proven" in proof:
        return voice.known(f"Merged, but not compared with what was trained: {proof['not_proven']}.")
    return voice(
        "Merged into the base's weights ({weights}) and compared: {same} of {tokens} held-out tokens are the same; loss {before} before, {after} merged.",
        weights=voice(proof["base_weights"]),
        same=voice.number(proof["top1_agreement"] * 100, 1) + "%",
        tokens=proof["tokens"],
        before=voice.number(proof["validation_loss_adapter"], 4),
        after=voice.number(proof["validation_loss_merged"], 4),
    )


def _proof_row(example: dict[str, Any], voice: Voice) -> str:
    right = "right" if _is_right(example) else "wrong"
    cells = ""
    for name, key, mark in (("Expected", "expected", ""), ("Base", "zero_shot", ""), ("Tuned", "tuned", right)):
        cells += f"<td class='{mark}' data-label='{escape(voice(name))}'>{reply_html(example[key], 200, voice)}</td>"
    return f"<tr><th scope='row'>{short_html(example['prompt'], 160)}</th>{cells}</tr>"
