"""The live view: what a run's folder says, as HTML. Knows no component, and no run but the one it is given."""

from __future__ import annotations

from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from ftui.evaluate import FEWEST_ROWS, is_exact
from ftui.history import created, data_name
from ftui.plan import Plan
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
PROOF_ROWS = 12


def plan_html(plan: Plan, voice: Voice, adapter: str | None = None) -> str:
    """What the run will take, and whether it fits, with the basis of the estimate and the adapter it starts from."""
    numbers = voice(
        "{steps} steps, about {time}, {memory} GB of memory, {disk} GB of disk",
        steps=voice.number(plan.steps),
        time=_duration(plan.seconds),
        memory=voice.number(plan.peak_memory_bytes / 1e9, 1),
        disk=voice.number(plan.disk_bytes / 1e9, 1),
    )
    if plan.cost is not None:
        numbers += ", " + voice("about ${cost}", cost=voice.number(plan.cost, 2))
    mark = {"fits": "good", "tight": "warn", "does not fit": "bad"}[plan.verdict]
    advice = f"<p class='warn'>{escape(voice.known(plan.advice))}</p>" if plan.advice else ""
    start = f"<p>{escape(voice('Starts from the adapter of {name}.', name=adapter))}</p>" if adapter else ""
    tip = f"<p class='quiet'>{escape(voice.known(plan.tip))}</p>" if plan.tip else ""
    lines = "".join(f"<p class='quiet'>{escape(line)}</p>" for line in _plan_lines(plan, voice))
    summary = escape(voice("measured in a rehearsal") if plan.rehearsed else voice("estimate"))
    return (
        f"<div class='card plan'><p><b class='{mark}'>{escape(voice(plan.verdict))}</b> {escape(numbers)}</p>{start}{advice}{tip}"
        f"<details><summary class='quiet'>{summary}</summary>{lines}</details></div>"
    )


def _plan_lines(plan: Plan, voice: Voice) -> list[str]:
    """Time and memory by part, how the steps are carried out, and what all that rests on."""
    times = [f"{voice(part)} {_duration(seconds)}" for part, seconds in plan.times.items()]
    memory = [
        f"{voice(part)} {voice.number(size / 1e9, 2)} GB" for part, size in plan.memory.items() if size >= 5_000_000
    ]
    passes = voice(
        "Passes of up to {tokens} tokens; {recomputed} of {layers} layers recompute their activations.",
        tokens=voice.number(plan.choice.tokens),
        recomputed=plan.choice.recomputed,
        layers=plan.choice.layers,
    )
    return [" · ".join(times), " · ".join(memory), passes, voice.known(plan.basis)]


def status_html(run: Run, state: str, events: list[Event], voice: Voice, before: Run | None = None) -> str:
    """The phase in words, a bar, and the latest numbers as text; and how the run ended that was `before` it."""
    measured = run.metrics()
    last = measured[-1] if measured else None
    sentence = voice.known(next((event.message for event in reversed(events) if event.type == "state"), ""))
    if state == "interrupted":
        sentence = voice("The process that worked on this run ended. What it saved is kept.")
    if run.stop_wanted and state in WORKING:
        sentence = voice("Training stops after this step; what was learned is kept.")
        if run.discarding:
            sentence = voice("Training stops after this step; then the run goes to the trash.")
    facts, share = [], 0.0
    if works_on := _progress(state, events, voice):
        fact, share = works_on
        facts.append(fact)
    elif last:
        share = last["step"] / max(last["steps"], 1)
        facts.append(voice("step {step} of {steps}", step=last["step"], steps=last["steps"]))
        if state == "training" and last["step"] < last["steps"]:
            facts.append(voice("{time} left (measured)", time=_duration(last["seconds_left"])))
        facts.append(voice("{rate} tokens/s", rate=voice.number(last["tokens_per_second"])))
        facts.append(voice("{gb} GB in use", gb=voice.number(last["memory"] / 1e9, 1)))
        for name, words in (("loss", "loss {loss}"), ("validation_loss", "validation {loss}")):
            value = next((data[name] for data in reversed(measured) if data.get(name) is not None), None)
            if value is not None:
                facts.append(voice(words, loss=voice.number(value, 3)))
    share = 1.0 if state == "done" else share
    if state == "done" and (compared := _planned_beside_actual(events, measured, voice)):
        facts.append(compared)
    bar = f"<progress max='1' value='{share:.3f}' aria-label='{escape(voice('Training'))}'></progress>"
    return (
        f"<div class='card status {state}'><p class='phase' role='status' aria-live='polite'><b>{escape(voice(PHASES[state]))}</b> "
        f"<span>{escape(sentence)}</span></p>{bar}<p class='numbers'>{' · '.join(map(escape, facts))}</p>"
        f"<p class='quiet'>{escape(run.run_id)} · {escape(run.base_model)}</p>{_ended_html(before, voice) if before else ''}</div>"
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
    """Time of all sittings, and the most memory until training ended, as both were planned."""
    plan = next((event.data["plan"] for event in reversed(events) if "plan" in event.data), None)
    sittings = _sittings(events)
    if not plan or not measured or not sittings:
        return None
    peak = max(data.get("peak_memory", data["memory"]) for data in measured)
    compared = voice(
        "planned {time} and {memory} GB, took {actual_time} and {actual_memory} GB",
        time=_duration(plan["seconds"]),
        memory=voice.number(plan["peak_memory_bytes"] / 1e9, 1),
        actual_time=_duration(sum(sittings)),
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


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


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
            f"<tr><th scope='row'>{_short(prompt, 160)}</th>"
            + "".join(
                f"<td data-label='{names[step]}'>{_reply(replies.get(step), 220, voice)}</td>" for step in columns
            )
            + "</tr>"
        )
    title, question = escape(voice("Watch it learn")), escape(voice("Question"))
    return f"<div class='card'><h3>{title}</h3><table class='grid stacks'><tr><th>{question}</th>{head}</tr>{body}</table></div>"


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
    rows = "".join(_proof_row(example, voice) for example in examples[:PROOF_ROWS])
    shown = voice("{shown} of {of} rows are shown.", shown=min(PROOF_ROWS, len(examples)), of=len(examples))
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
        cells += f"<td class='{mark}' data-label='{escape(voice(name))}'>{_reply(example[key], 200, voice)}</td>"
    return f"<tr><th scope='row'>{_short(example['prompt'], 160)}</th>{cells}</tr>"


def run_title(run: Run, voice: Voice) -> str:
    """A run in words that tell it from others: its data, its base and when it was made."""
    data = Path(data_name(run.config)).stem if run.has_config else run.run_id
    return f"{data} · {run.base_model} · {voice.day(created(run))}"


def log_html(events: list[Event], voice: Voice) -> str:
    lines = "".join(
        f"<p class='{event.level}'><time>{escape(event.time[11:19])}</time> {escape(voice.known(event.message))}</p>"
        + (f"<pre>{escape(event.data['trace'])}</pre>" if event.data.get("trace") else "")
        for event in events
        if event.type in ("state", "message", "resumed")
    )
    return f"<div class='log'>{lines}</div>"


def _reply(text: str | None, length: int, voice: Voice) -> str:
    """None was not asked; an answer without words is one, too."""
    if text is None or text.strip():
        return _short(text or "", length)
    return f"<span class='quiet'>{escape(voice('(no words)'))}</span>"


def _short(text: str, length: int) -> str:
    text = text if len(text) <= length else text[: length - 1] + "…"
    return escape(text)
