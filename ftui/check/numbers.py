"""What was found in a look, as numbers: plain values for JSON, the page and the reports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from ftui.check.look import Look
from ftui.config import RunConfig
from ftui.dataset import Rows
from ftui.device import Device, this_device
from ftui.doctor import Problem, suggested_epochs
from ftui.errors import UserError
from ftui.examples import Examples
from ftui.plan import plan_of
from ftui.template.placeholders import column_of
from ftui.train import check_possible

if TYPE_CHECKING:
    import numpy as np

BINS = 20
WORST = 10
LABELS = 100


def numbers(config: RunConfig, found: Look, device: Device | None = None) -> dict[str, Any]:
    """What was found, as plain values."""
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
