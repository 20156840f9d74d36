"""The Runs tab in HTML: the list, the checkpoints of a run, and runs beside each other. Knows no component."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ftui.history import RunLine
from ftui.loop import report_name
from ftui.runs import ENDED, WORKING, Run
from ftui.train import Checkpoint
from ftui.ui.language import Voice
from ftui.ui.plots import curve, plot_html
from ftui.ui.run_html import PHASES

LETTERS = "ABC"
SHOWN = 500
CHECKPOINT_CELLS = ("Step", "Validation loss", "Verdict", "Saved", "Size")
VERDICTS = ("better", "worse", "not better", "too few rows")
GROUPS: dict[str, tuple[str, Sequence[str] | None]] = {
    "all": ("All runs", None),
    "work": ("At work and waiting", (*WORKING, "queued")),
    "done": ("Done", ("done",)),
    "early": ("Ended early", tuple(state for state in ENDED if state != "done")),
    "trash": ("Trash", None),
}

# Rows are chosen by mouse and by keyboard; a list that is drawn again keeps the focus where it was.
CHOOSING = """
let focused = null;
element.addEventListener('focusin', event => focused = event.target.dataset.focus);
element.addEventListener('click', event => {
  const tick = event.target.closest('input[data-tick]'), row = event.target.closest('[data-run]');
  const ticked = [...element.querySelectorAll('input[data-tick]:checked')].map(box => box.dataset.tick);
  if (tick) trigger('select', {runs: ticked, last: tick.dataset.tick});
  else if (row && !event.target.closest('.tick')) trigger('click', {run: row.dataset.run});
});
watch('value', () => {
  if (focused && document.activeElement === document.body)
    element.querySelector(`[data-focus="${focused}"]`)?.focus({preventScroll: true});
});
"""
# Which of them a button triggers stands in its data-act.
ACTING = """
const acts = ['chat', 'evaluate', 'rewind', 'begin'];
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-act]');
  if (button && acts.includes(button.dataset.act)) trigger(button.dataset.act, {step: Number(button.dataset.step)});
});
"""


def matching(lines: list[RunLine], group: str, search: str) -> list[RunLine]:
    """The lines of a group in which every searched word occurs."""
    states, words = GROUPS[group][1], search.lower().split()

    def text(line: RunLine) -> str:
        return f"{line.run} {line.data} {line.base_model} {line.state} {line.verdict}".lower()

    return [
        line for line in lines if (states is None or line.state in states) and all(word in text(line) for word in words)
    ]


def runs_html(
    lines: list[RunLine], chosen: str | None, ticked: Sequence[str] | None, nothing: str, voice: Voice
) -> str:
    """The list. `ticked`: those compared, None where nothing can be; `nothing`: what it says when it is empty."""
    names = ("Run", "State", "Base", "Steps", "Loss", "Validation", "Verdict", "Size")
    numbers = {"Steps", "Loss", "Validation", "Size"}
    head = "".join(
        f"<th scope='col' class='{'name' if name == 'Run' else 'number' if name in numbers else ''}'>{escape(voice(name))}</th>"
        for name in names
    )
    body = "".join(_row(line, line.run == chosen, ticked, voice) for line in lines[:SHOWN])
    if not lines:
        body = f"<tr><td class='none' colspan='9'>{escape(nothing)}</td></tr>"
    tick = f"<th scope='col' class='tick'><span class='sr-only'>{escape(voice('Compare'))}</span></th>"
    label = escape(voice("Runs"))
    return f"<div class='runs' role='region' aria-label='{label}'><table><thead><tr>{tick}{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _row(line: RunLine, is_chosen: bool, ticked: Sequence[str] | None, voice: Voice) -> str:
    letter = LETTERS[ticked.index(line.run)] if ticked and line.run in ticked else ""
    name = escape(Path(line.data).stem or line.run)
    told = f"{name} {escape(voice.day(line.created))}"  # aloud there is no column beside it that tells it from others
    tick = (
        f"<td class='tick'><input type='checkbox' data-tick='{line.run}' data-focus='t{line.run}' {'checked' if letter else ''} "
        f"aria-label='{escape(voice('Compare'))} {told}'></td>"
        if ticked is not None
        else "<td class='tick'></td>"
    )
    title = (
        f"<td class='name'><button class='open' data-focus='r{line.run}' title='{line.run}' aria-label='{told}'>{_chip(letter)}{name}</button>"
        f"<small>{escape(voice.day(line.created))} · {line.run[-4:]}</small></td>"
    )
    cells = [
        ("", f"<span class='state {line.state}'>{escape(voice(PHASES[line.state]))}</span>"),
        ("", escape(_short_base(voice.known(line.base_model)))),
        ("number", f"{voice.number(line.step)} / {voice.number(line.steps)}" if line.steps else "–"),
        ("number", _loss(line.loss, voice)),
        ("number", _loss(line.validation_loss, voice)),
        ("", verdict_html(line.verdict, voice)),
        ("number", size_of(line.bytes, voice)),
    ]
    rest = "".join(f"<td class='{kind}'>{cell}</td>" for kind, cell in cells)
    current = " aria-current='true'" if is_chosen else ""
    return f"<tr data-run='{line.run}'{current}>{tick}{title}{rest}</tr>"


def verdict_html(verdict: str | None, voice: Voice) -> str:
    if verdict not in VERDICTS:
        return "–"
    return f"<span class='{ {'better': 'good', 'worse': 'bad'}.get(verdict, '') }'>{escape(voice(verdict))}</span>"


def size_of(size: int, voice: Voice) -> str:
    if size < 1e5:
        return f"{voice.number(size / 1e3, 1)} kB"
    return f"{voice.number(size / 1e9, 2)} GB" if size >= 1e8 else f"{voice.number(size / 1e6, 1)} MB"


def _loss(loss: float | None, voice: Voice) -> str:
    return "–" if loss is None else voice.number(loss, 3)


def _short_base(base_model: str) -> str:
    """A folder of this machine by its last name; a Hub id as it is."""
    return Path(base_model).name if Path(base_model).is_absolute() else base_model


def _chip(letter: str) -> str:
    return f"<span class='letter {letter.lower()}'>{letter}</span>" if letter else ""


def checkpoints_html(run: Run, found: list[Checkpoint], can_act: bool, voice: Voice) -> str:
    """What a run can go on from, each with what can be done with it; nothing can while it lies in the trash."""
    if not found:
        return f"<p class='quiet'>{escape(voice('No complete checkpoint yet. One is saved at every check.'))}</p>"
    head = "".join(f"<th scope='col'>{escape(voice(name))}</th>" for name in CHECKPOINT_CELLS) + "<th></th>"
    best = min((point.validation_loss for point in found if point.validation_loss is not None), default=None)
    body = "".join(_checkpoint_row(run, point, point.validation_loss == best, can_act, voice) for point in found)
    table = f"<div class='runs'><table class='stacks'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    why = _why_not(run, can_act)
    return f"{table}<p class='quiet'>{escape(voice(why))}</p>" if why else table


def _why_not(run: Run, can_act: bool) -> str:
    """Why some buttons of the checkpoints are off; nothing where none is."""
    if not can_act:
        return "Restore the run first, then it can go on from a checkpoint."
    if run.is_held or run.state not in ENDED:
        return "While the run is at work, its checkpoints wait."
    return (
        "A finished run is not trained again; a new run can start from its checkpoints." if run.state == "done" else ""
    )


def _checkpoint_row(run: Run, point: Checkpoint, is_best: bool, can_act: bool, voice: Voice) -> str:
    state = run.state
    loss = _loss(point.validation_loss, voice)
    if is_best and point.validation_loss is not None:
        loss = f"<b class='good'>{loss}</b>"
    ended = state in ENDED and not run.is_held
    acts = [("chat", "Chat", ended), ("evaluate", "Evaluate", ended)]
    acts += [("rewind", "Continue from here", ended and state != "done"), ("begin", "New run from it", True)]
    buttons = "".join(
        f"<button class='act' data-act='{act}' data-step='{point.step}' aria-label='{escape(voice(label))}: {point.step}'"
        f"{'' if can and can_act else ' disabled'}>{escape(voice(label))}</button>"
        for act, label, can in acts
    )
    report = run.read_json(f"{report_name(point.step)}.json")
    verdict = verdict_html(report["verdict"] if report else None, voice)
    values = (str(point.step), loss, verdict, escape(voice.day(point.written)), size_of(point.bytes, voice))
    cells = "".join(
        f"<td data-label='{escape(voice(name))}'>{value}</td>"
        for name, value in zip(CHECKPOINT_CELLS, values, strict=True)
    )
    return f"<tr>{cells}<td>{buttons}</td></tr>"


# runs beside each other


def compared_html(runs: Sequence[Run], voice: Voice) -> str:
    """Validation losses by step, a curve a run."""
    curves = {
        (letter.lower(), letter): curve(run.metrics(), "validation_loss")
        for letter, run in zip(LETTERS, runs, strict=False)
    }
    return plot_html(curves, voice("Validation loss"), voice)


def differences_html(lines: Sequence[RunLine], runs: Sequence[Run], voice: Voice) -> str:
    """What came out, and the settings that are not the same."""
    heads = "".join(
        f"<th scope='col'>{_chip(letter)}{escape(Path(line.data).stem)} <small class='quiet'>{escape(voice.day(line.created))}</small></th>"
        for letter, line in zip(LETTERS, lines, strict=False)
    )
    outcomes = {
        "State": [escape(voice(PHASES[line.state])) for line in lines],
        "Validation loss": [_loss(line.validation_loss, voice) for line in lines],
        "Verdict": [verdict_html(line.verdict, voice) for line in lines],
        "exact matches": [_exact(run) for run in runs],
    }
    rows = [(voice(name), cells) for name, cells in outcomes.items()]
    settings = [dict(_flat(run.config.model_dump(mode="json"))) if run.has_config else {} for run in runs]
    keys = list(dict.fromkeys(key for values in settings for key in values))
    differing = [key for key in keys if len({repr(values.get(key)) for values in settings}) > 1]
    rows += [(key, [escape(_value(values.get(key))) for values in settings]) for key in differing]
    body = "".join(
        f"<tr><th scope='row'>{escape(name)}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        for name, cells in rows
    )
    same = "" if differing else f"<p class='quiet'>{escape(voice('All settings are the same.'))}</p>"
    return f"<div class='card'><table class='grid'><tr><th></th>{heads}</tr>{body}</table>{same}</div>"


def _exact(run: Run) -> str:
    report = run.read_json("report.json")
    share = report["systems"]["tuned"]["exact_match"] if report and report["metric"] == "exact_match" else None
    return "–" if share is None else f"{share:.0%}"


def _value(value: Any) -> str:
    text = "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 160 else text[:159] + "…"


def _flat(values: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield path + key, value
