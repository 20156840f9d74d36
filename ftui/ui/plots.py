"""The loss plots as HTML: lines in a picture that stretches with the page, and words over it that do not. Knows no component."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import Any

from ftui.ui.language import Voice

POINTS = 300  # a curve, so that a page stays quick however long the run
TICKS = 8
Curve = list[tuple[int, float]]  # losses by step


def curve(measured: Sequence[dict[str, Any]], name: str) -> Curve:
    """What was measured under this name, thinned out; the last point always stays."""
    found = [(data["step"], data[name]) for data in measured if data.get(name) is not None]
    found = [(step, loss) for step, loss in found if math.isfinite(loss)]
    return [*found[: -1 : len(found) // POINTS + 1], *found[-1:]]


def plot_html(curves: dict[tuple[str, str], Curve], title: str, voice: Voice) -> str:
    """`curves`: by the class that gives a curve its color, and its name in words; one without points is left out."""
    curves = {kind: points for kind, points in curves.items() if points}
    if not curves:
        return ""
    steps, losses = zip(*(point for points in curves.values() for point in points), strict=True)
    first, last = min(steps), max(steps)
    up = _ticks(0, max(losses), TICKS - 2)
    span, top = last - first or 1, up[-1] or 1

    def place(step: float, loss: float) -> tuple[str, str]:
        """In percent of the picture, from its upper left."""
        return f"{100 * (step - first) / span:.2f}", f"{100 - 100 * loss / top:.2f}"

    between = [tick for tick in _ticks(first, last, TICKS, least=1) if span / 20 < tick - first < span * 19 / 20]
    across = sorted({first, *map(int, between), last})
    grid = "".join(f"M {place(step, 0)[0]} 0 v 100 " for step in across)
    grid += "".join(f"M 0 {place(first, loss)[1]} h 100 " for loss in up)
    words = "".join(f"<i class='x' style='left:{place(step, 0)[0]}%'>{voice.number(step)}</i>" for step in across)
    words += "".join(f"<i class='y' style='top:{place(first, loss)[1]}%'>{_short(loss, voice)}</i>" for loss in up)
    lines, legend = "", ""
    for (kind, name), points in curves.items():
        lines += f"<g class='{kind}'>{''.join(_line(points, place, name, voice))}</g>"
        legend += f"<span class='{kind}'>{escape(name)}</span>"
    return (
        f"<figure class='card plot' role='img' aria-label='{escape(title)}'><figcaption><b>{escape(title)}</b>{legend}</figcaption>"
        f"<div class='area'><svg viewBox='0 0 100 100' preserveAspectRatio='none'><path class='grid' d='{grid}'/>{lines}</svg>"
        f"{words}</div><p class='quiet'>{escape(voice('step'))}</p></figure>"
    )


def _line(points: Curve, place: Callable[[float, float], tuple[str, str]], name: str, voice: Voice) -> Iterator[str]:
    """The line, and a dot at every point that says its numbers when it is hovered over; a lone one always shows."""
    yield f"<polyline points='{' '.join(','.join(place(*point)) for point in points)}'/>"
    for step, loss in points:
        x, y = place(step, loss)
        lone = " class='lone'" if len(points) == 1 else ""
        said = f"{name} · {voice('step {step}', step=step)}: {voice.number(loss, 3)}"
        yield f"<path{lone} d='M {x} {y} h 0'><title>{escape(said)}</title></path>"


def _ticks(low: float, high: float, most: int, least: float = 0) -> list[float]:
    """Round numbers from below `low` to above `high`, about `most`, apart by 1, 2 or 5 times a power of ten, and `least`."""
    rough = max((high - low or 1) / most, least)
    power = 10 ** math.floor(math.log10(rough))
    apart = next(size * power for size in (1, 2, 5, 10) if size * power >= rough * 0.999)
    return [apart * number for number in range(math.floor(low / apart), math.ceil(high / apart) + 1)]


def _short(loss: float, voice: Voice) -> str:
    return voice.number(loss, 0 if loss == int(loss) else 1 if round(loss, 1) == round(loss, 4) else 3)
