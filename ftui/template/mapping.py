"""Which column plays which role in a template, and the template after a column is given a role: the mapping by click.

A role is read from what is written and written into it, so that clicking and writing are two views of one template.
Parts are the fields of a PromptTemplate as somebody is just writing them; they need not fit together yet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from ftui.template.placeholders import PIECE

Parts = Mapping[str, str | None]

WRITTEN = ("system", "prompt", "completion", "reasoning")  # parts that are templates
NAMED = ("history", "messages", "tools", "text")  # parts that name a column
PARTS = WRITTEN + NAMED
ROLES = {
    "system": "system",
    "question": "prompt",
    "context": "prompt",
    "answer": "completion",
    "reasoning": "reasoning",
}
# What a role leaves no place for.
_ENDS = {
    "messages": ("prompt", "history", "text"),
    "text": ("system", "prompt", "completion", "reasoning", "history", "messages", "tools"),
    "question": ("messages", "tools", "text"),
    "context": ("messages", "tools", "text"),
    "history": ("messages", "tools", "text"),
    "answer": ("text",),
    "system": ("text",),
    "reasoning": ("text",),
    "tools": ("prompt", "history", "text"),
}


def roles_in(parts: Parts) -> dict[str, str]:
    """The column of each role, or the path into one; empty where none plays it.

    In a prompt, the context stands in a [[block]] and the question does not. Where a part has several, it is the first.
    """
    roles = {}
    for role, part in ROLES.items():
        spot = _spot(parts.get(part) or "", in_block=role == "context")
        roles[role] = spot[2] if spot else ""
    for part in NAMED:
        written = (parts.get(part) or "").strip()
        spot = _spot(written, in_block=False)
        roles[part] = spot[2] if spot else written
    return roles


def with_role(parts: Parts, role: str, column: str | None) -> dict[str, str | None]:
    """The parts after `column` was given the role, or after none was. What stands around it is kept."""
    column = (column or "").strip()
    changed = {part: parts.get(part) or "" for part in PARTS}
    if column:
        changed |= dict.fromkeys(_ENDS[role], "")
    if role in NAMED:
        return changed | {role: column}
    part = ROLES[role]
    return changed | {part: _placed(changed[part], column, in_block=role == "context")}


def _placed(template: str, column: str, in_block: bool) -> str:
    spot = _spot(template, in_block)
    if spot is None:
        if not column:
            return template
        if in_block:
            return f"[[{{{{{column}}}}}\n\n]]{template}"
        return f"{template.rstrip()}\n{{{{{column}}}}}" if template.strip() else f"{{{{{column}}}}}"
    start, end, name = spot
    if not column:
        return (template[:start] + template[end:]).strip("\n")
    written = re.sub(
        rf"\{{\{{\s*{re.escape(name)}\s*\}}\}}", lambda _: f"{{{{{column}}}}}", template[start:end], count=1
    )
    return template[:start] + written + template[end:]


def _spot(template: str, in_block: bool) -> tuple[int, int, str] | None:
    """Where the first placeholder stands, outside blocks or with its block, and its name."""
    for match in PIECE.finditer(template):
        name = match["name"]
        if in_block and match["block"] is not None:
            name = next((inner["name"] for inner in PIECE.finditer(match["block"]) if inner["name"]), None)
        elif in_block:
            name = None
        if name and name.strip():
            return match.start(), match.end(), name.strip()
    return None
