"""What the folder of a run says, as HTML: how it goes, its curves, its answers and its log. Knows no component."""

from __future__ import annotations

from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from ftui.history import created, data_name, kept_sentence
from ftui.proof import differs
from ftui.runs import ENDED, WORKING, Event, Run
from ftui.ui.language import Voice
from ftui.ui.plots import curve, plot_html

PHASES = {
    "queued": "Waiting to start",
    "preparing": "Preparing",
    "training": "Training",
    "evaluating": "Evaluating",
    "merging": "Merging",
    "done": "Done",
    "stopped": "Stopped",
    "failed": "Failed",
    "interrupted": "Interrupted",
}
PROGRESS = {
    "prepared": "{done} of {of} rows prepared",
    "answered": "{done} of {of} rows answered",
    "written": "{done} of {of} GB written",
    "compared": "{done} of {of} rows compared",
}


def status_html(run: Run, state: str, events: list[Event], voice: Voice, before: Run | None = None) -> str:
    """The phase in words, a bar, and the latest numbers as text; and how the run ended that was `before` it."""
    measured = run.metrics()
    last = measured[-1] if measured else None
    ended = next((event for event in reversed(events) if event.type == "state"), None)
    sentence = voice.known(ended.message if ended else "")
    kind = "done wrong" if state == "done" and differs(run.read_json("proof.json")) else state
    if state == "interrupted" and run.written_state in WORKING:  # nobody could write down why
        sentence = voice("The process that worked on this run ended. What it saved is kept.")
    if run.stop_wanted and state in WORKING:
        sentence = voice("Training stops after this step; what was learned is kept.")
        if run.discarding:
            sentence = voice("Training stops after this step; then the run goes to the trash.")
    if sentence == f"{voice(PHASES[state])}.":
        sentence = ""
    facts, share = [], 0.0
    if works_on := _progress(state, events, voice):
        fact, share = works_on
        facts.append(fact)
    elif last:
        share = last["step"] / max(last["steps"], 1)
        facts.append(voice("step {step} of {steps}", step=last["step"], steps=last["steps"]))
        if state == "training" and last["step"] < last["steps"]:
            facts.append(voice("{time} left (measured)", time=voice.duration(last["seconds_left"])))
        facts.append(voice("{rate} tokens/s", rate=voice.number(last["tokens_per_second"])))
        facts.append(voice("{gb} GB in use", gb=voice.number(last["memory"] / 1e9, 1)))
        for name, words in (("loss", "loss {loss}"), ("validation_loss", "validation {loss}")):
            value = next((data[name] for data in reversed(measured) if data.get(name) is not None), None)
            if value is not None:
                facts.append(voice(words, loss=voice.number(value, 3)))
    share = 1.0 if state == "done" else share
    if state in ENDED and (kept := kept_sentence(run)):
        facts.append(voice.known(kept))
    if state == "done" and (compared := _planned_beside_actual(events, measured, voice)):
        facts.append(compared)
    bar = f"<progress max='1' value='{share:.3f}' aria-label='{escape(voice('Training'))}'></progress>"
    return (
        f"<div class='card status {kind}'><p class='phase' role='status' aria-live='polite'><b>{escape(voice(PHASES[state]))}</b> "
        f"<span>{escape(sentence)}</span></p>{bar}<p class='numbers'>{' · '.join(map(escape, facts))}</p>"
        f"<p class='quiet'>{escape(run.run_id)} · {escape(voice.known(run.base_model))}</p>{_ended_html(before, voice) if before else ''}</div>"
    )


def _ended_html(run: Run, voice: Voice) -> str:
    said = voice.known(next((event.message for event in reversed(run.tail()) if event.type == "state"), ""))
    words = voice(
        "Before it: {name}. {state}: {sentence}",
        name=run_title(run, voice),
        state=voice(PHASES[run.state]),
        sentence=said,
    )
    return f"<p>{escape(words)}</p>"


def _progress(state: str, events: list[Event], voice: Voice) -> tuple[str, float] | None:
    """How far the stage at work is, in words and as a share; None for training, whose steps say it, and before any count."""
    if state not in WORKING:
        return None
    for event in reversed(events):
        if event.type in ("state", "metrics"):
            return None
        if event.type == "progress":
            done, of = event.data["done"], max(event.data["of"], 1)
            words = PROGRESS[event.data["what"]]
            unit, decimals = (1e9, 1) if event.data["what"] == "written" else (1, 0)
            return voice(
                words, done=voice.number(int(done) / unit, decimals), of=voice.number(of / unit, decimals)
            ), min(done / of, 1.0)
    return None


def _planned_beside_actual(events: list[Event], measured: list[dict[str, Any]], voice: Voice) -> str | None:
    """Time of all sittings, and the most memory until the merge began, as both were planned."""
    plan = next((event.data["plan"] for event in reversed(events) if "plan" in event.data), None)
    sittings = _sittings(events)
    if not plan or not measured or not sittings:
        return None
    peak = max(event.data.get("peak_memory", event.data.get("memory", 0)) for event in events)
    compared = voice(
        "planned {time} and {memory} GB, took {actual_time} and {actual_memory} GB",
        time=voice.duration(plan["seconds"]),
        memory=voice.number(plan["peak_memory_bytes"] / 1e9, 1),
        actual_time=voice.duration(sum(sittings)),
        actual_memory=voice.number(peak / 1e9, 1),
    )
    return compared if len(sittings) == 1 else f"{compared}, {voice('in {count} sittings', count=len(sittings))}"


def _sittings(events: list[Event]) -> list[float]:
    """Seconds of each sitting, from the reading of its rows to its end or its last word; not what was done to an ended run."""
    sittings: list[float] = []
    last, opening = None, None
    for event in events:
        state, now = event.data.get("state"), datetime.fromisoformat(event.time)
        if state == "preparing" and event.message == (opening or event.message):
            last, opening = now, event.message
            sittings.append(0)
        elif state == "queued":
            last = None
        if last:
            sittings[-1] += max((now - last).total_seconds(), 0)  # the clock may have been set back
            last = now
        if state in ENDED:
            last = None
    return sittings


def losses_html(run: Run, voice: Voice) -> str:
    """Both losses by step; nothing before the first."""
    measured = run.metrics()
    curves = {
        ("training", voice("rows it learns from")): curve(measured, "loss"),
        ("validation", voice("rows it never sees")): curve(measured, "validation_loss"),
    }
    return plot_html(curves, voice("Loss: lower is better"), voice)


def watched_html(events: list[Event], voice: Voice) -> str:
    """What the model answered before training, and at the last two checks."""
    samples = [event.data for event in events if event.type == "sample"]
    if not samples:
        return ""
    steps = sorted({sample["step"] for sample in samples})
    columns = [steps[0], *steps[1:][-2:]]
    names = {step: escape(voice("before") if step == 0 else voice("step {step}", step=step)) for step in columns}
    head = "".join(f"<th scope='col'>{name}</th>" for name in names.values())
    body = ""
    for prompt in dict.fromkeys(sample["prompt"] for sample in samples):
        replies = {sample["step"]: sample["reply"] for sample in samples if sample["prompt"] == prompt}
        body += (
            f"<tr><th scope='row'>{short_html(prompt, 160)}</th>"
            + "".join(
                f"<td data-label='{names[step]}'>{reply_html(replies.get(step), 220, voice)}</td>" for step in columns
            )
            + "</tr>"
        )
    title, question = escape(voice("Watch it learn")), escape(voice("Question"))
    return f"<div class='card'><h3>{title}</h3><table class='grid stacks'><tr><th>{question}</th>{head}</tr>{body}</table></div>"


def run_title(run: Run, voice: Voice) -> str:
    """A run in words that tell it from others: its data, its base, when it was made, and how its name ends, as in the list."""
    data = Path(data_name(run.config)).stem if run.has_config else run.run_id
    return f"{data} · {voice.known(run.base_model)} · {voice.day(created(run))} · {run.run_id[-4:]}"


def log_html(events: list[Event], voice: Voice) -> str:
    lines = "".join(
        f"<p class='{event.level}'><time>{escape(event.time[11:19])}</time> {escape(voice.known(event.message))}</p>"
        + (f"<pre>{escape(event.data['trace'])}</pre>" if event.data.get("trace") else "")
        for event in events
        if event.type in ("state", "message", "resumed")
    )
    return f"<div class='log'>{lines}</div>"


def reply_html(text: str | None, length: int, voice: Voice) -> str:
    """What a model said, cut to a length; None was not asked, and an answer without words is one, too."""
    if text is None or text.strip():
        return short_html(text or "", length)
    return f"<span class='quiet'>{escape(voice('(no words)'))}</span>"


def short_html(text: str, length: int) -> str:
    return escape(text if len(text) <= length else text[: length - 1] + "…")
