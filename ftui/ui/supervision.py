"""The supervision view: rows token by token, their lengths, and what the doctor found, as HTML. Knows no component."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

from ftui.check import Look, facts
from ftui.config import TrainingSettings
from ftui.encoding import TokenView
from ftui.errors import UserError
from ftui.ui.language import Voice

SHOWN_ROWS = 5
SHOWN_TOKENS = 1500
KINDS = {"context": "context", "learned": "learned", "cut": "cut off"}
ORDERS = {"order": "As they come", "longest": "Longest first", "cut": "Most cut first", "left": "Left out"}


def chosen_rows(found: Look, order: str, search: str) -> list[int]:
    """Numbers of the rows that are looked at, in an order: all usable ones, or those left out; with `search`, only what contains it."""
    wanted = set(found.rows.containing(search.strip())) if search.strip() else range(len(found.rows))
    if order == "left":
        return [left.row for left in found.examples.left_out if left.row in wanted]
    parts = found.examples.parts.values()
    numbers, lengths, cut = (
        [each for part in parts for each in getattr(part, name).tolist()] for name in ("numbers", "lengths", "cut")
    )
    worst = {"longest": [-a - b for a, b in zip(lengths, cut, strict=True)], "cut": [-each for each in cut]}
    chosen = sorted(zip(worst.get(order) or [0] * len(numbers), numbers, strict=True))
    return [number for _, number in chosen if number in wanted]


def rows_html(found: Look, chosen: list[int], page: int, settings: TrainingSettings, voice: Voice) -> str:
    """Five rows exactly as the trainer gets them."""
    kinds = {**KINDS, "context special": "special token"}
    legend = " ".join(f"<span class='token {kind}'>{escape(voice(name))}</span>" for kind, name in kinds.items())
    start = page * SHOWN_ROWS
    reasons = {left.row: left.reason for left in found.examples.left_out}
    shown = "".join(
        _row(found, row, reasons.get(row, ""), settings, voice) for row in chosen[start : start + SHOWN_ROWS]
    )
    where = voice(
        "{first} to {last} of {count}",
        first=min(start + 1, len(chosen)),
        last=min(start + SHOWN_ROWS, len(chosen)),
        count=voice.number(len(chosen)),
    )
    title = escape(voice("What the model will see"))
    return (
        f"<div class='card'><h3>{title} <small>{escape(where)}</small></h3><p class='legend'>{legend}</p>{shown}</div>"
    )


def no_rows_html(order: str, search: str, voice: Voice) -> str:
    """Why there is no row to show."""
    none = "No row is left out." if order == "left" else "No row can be used."
    sentence = voice("No row here has “{text}”.", text=search.strip()) if search.strip() else voice(none)
    return hint_html(sentence)


def _row(found: Look, row: int, reason: str, settings: TrainingSettings, voice: Voice) -> str:
    """A row's tokens; of one that is left out also the reason, and what can be shown of it."""
    title = f"<h4>{voice('Row {row}', row=row + 1)}</h4>"
    left_out = f"<p class='bad'>{escape(voice('Left out: {reason}', reason=voice.known(reason)))}</p>" if reason else ""
    try:
        messages = found.examples.messages(row)
        tokens = found.encoding.explain(messages, settings.max_length, settings.completion_only_loss)
    except UserError:
        return title + left_out
    marks = "".join(_mark(letters, voice) for letters in _whole(tokens[:SHOWN_TOKENS]))
    return f"{title}{left_out}<div class='tokens'>{marks}</div>"


def _whole(tokens: Iterable[TokenView]) -> Iterator[list[TokenView]]:
    """The tokens that are shown as one, because only together they are letters."""
    half: list[TokenView] = []
    for token in tokens:
        half.append(token)
        if token.text:
            yield half
            half = []


def _mark(tokens: list[TokenView], voice: Voice) -> str:
    """Hovered over, it says every token's id, and what becomes of each where a cut goes through a letter."""
    last, kinds = tokens[-1], {token.kind for token in tokens}
    ids = " + ".join(
        f"{token.id} ({voice(KINDS[token.kind])})" if len(kinds) > 1 else str(token.id) for token in tokens
    )
    kind = f"token {last.kind}{' special' if last.special else ''}"
    text = escape(last.text).replace("\n", "↵<br>")
    return f"<span class='{kind}' title='{escape(ids)}: {escape(repr(last.text), quote=True)}'>{text}</span>"


def error_html(error: UserError, voice: Voice) -> str:
    """What stands in the way, where the result would stand."""
    return f"<div class='card'><p class='bad' role='alert'>{escape(voice.mistakes(error))}</p></div>"


def hint_html(sentence: str) -> str:
    """What to do next, where the result will stand."""
    return f"<div class='card'><p class='quiet' role='status'>{escape(sentence)}</p></div>"


def facts_html(found: dict[str, Any], voice: Voice) -> str:
    """Rows, tokens, the share that is learned, the lengths against max_length, and what else there is to know."""
    tokens, splits = found["tokens"], found["splits"]
    usable = sum(splits.values())
    first = [
        voice(
            "{rows} rows: {usable} can be used, {left} left out",
            rows=voice.number(found["rows"]),
            usable=voice.number(usable),
            left=voice.number(tokens["nothing_learned"]),
        ),
        voice(
            "{train} train, {validation} validate, {test} test", **{name: voice.number(splits[name]) for name in splits}
        ),
        voice(
            "{share} of {total} tokens are learned", share=f"{tokens['share']:.0%}", total=voice.number(tokens["total"])
        ),
    ]
    lengths = voice(
        "Tokens a row: half up to {p50}, 95 % up to {p95}, longest {max}; {cut} cut at {limit}.",
        cut=voice.number(tokens["cut_rows"]),
        limit=voice.number(tokens["max_length"]),
        **{name: voice.number(tokens[name]) for name in ("p50", "p95", "max")},
    )
    further = "".join(
        f"<p class='quiet'>{escape(sentence)}</p>" for sentence in (lengths, *map(voice.known, facts(found)))
    )
    notes = "".join(f"<p class='warn'>{escape(voice.known(note))}</p>" for note in found["notes"])
    return f"<div class='card'><p>{escape(' · '.join(first))}</p>{_histogram(tokens)}{further}{notes}</div>"


def _histogram(tokens: dict[str, Any]) -> str:
    highest = max((bin["rows"] for bin in tokens["histogram"]), default=0)
    bars = ""
    for bin in tokens["histogram"]:
        kind = "bar over" if bin["to"] > tokens["max_length"] else "bar"
        label = f"{bin['from']}–{bin['to']}: {bin['rows']}"
        height = 4 + 56 * bin["rows"] / highest if bin["rows"] else 1
        bars += f"<span class='{kind}' style='height:{height:.0f}px' title='{label}'></span>"
    return f"<div class='histogram' role='img' aria-label='{tokens['p50']} / {tokens['p95']} / {tokens['max']}'>{bars}</div>"


def problems_html(found: dict[str, Any], voice: Voice) -> str:
    """What the doctor found, worst first."""
    if not found["problems"]:
        return f"<div class='card'><p class='good'>{escape(voice('The doctor found nothing wrong with these rows.'))}</p></div>"
    rows = "".join(
        f"<tr><td class='{problem['severity']}'>{escape(voice(problem['severity']))}</td><td>{voice.number(problem['count'])}</td>"
        f"<td><code>{escape(problem['code'])}</code> {escape(voice.known(problem['message']))}</td></tr>"
        for problem in found["problems"]
    )
    title = escape(voice("What the doctor found"))
    return f"<div class='card'><h3>{title}</h3><table class='grid problems'>{rows}</table></div>"
