"""What the numbers say, in sentences: the same in the page, in the terminal and in every report."""

from __future__ import annotations

from typing import Any

from ftui.errors import listed

LISTED = 8


def sentences(found: dict[str, Any]) -> list[str]:
    """What was found, from the rows to the plan, a sentence each."""
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
        commonest = listed([f"“{label}” ({count:,})" for label, count in labels["commonest"].items()], LISTED)
        lines.append(f"{labels['different']:,} different answers, most often: {commonest}.")
    if unused := found["columns"]["unused"]:
        lines.append(f"Columns that neither template nor split uses: {listed(unused, LISTED)}. They are not learned.")
    if odd := found["columns"]["odd"]:
        lines.append(
            f"Column names with capitals or blanks: {listed(odd, LISTED)}. Later data and requests have to write them the same way."
        )
    return lines


def _spread_of(what: str, spread: dict[str, float]) -> str:
    return (
        f"{what}: {spread['min']:,} to {spread['max']:,}, {spread['mean']:,} on average; "
        f"a tenth up to {spread['p10']:,}, half up to {spread['p50']:,}, nine tenths up to {spread['p90']:,}."
    )
