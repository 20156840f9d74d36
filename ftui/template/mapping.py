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
    """The column of each role, or the path into one; empty where none plays it, and `intent + slots` where several do.

    In a prompt, contexts stand in a [[block]] and questions do not.
    """
    roles = {role: _joined(_spots(parts.get(part) or "", role == "context")) for role, part in ROLES.items()}
    for part in NAMED:
        written = (parts.get(part) or "").strip()
        roles[part] = _joined(_spots(written, in_block=False)) or written
    return roles


def with_role(parts: Parts, role: str, column: str | None) -> dict[str, str | None]:
    """The parts after `column` was given the role, or after none was. What stands around it is kept.

    Where several columns play the role, none is lost: another one joins them.
    """
    column = (column or "").strip()
    changed = {part: parts.get(part) or "" for part in PARTS}
    if column:
        changed |= dict.fromkeys(_ENDS[role], "")
    if role in NAMED:
        return changed if column and column == roles_in(changed)[role] else changed | {role: column}
    part = ROLES[role]
    return changed | {part: _placed(changed[part], column, in_block=role == "context")}


def _placed(template: str, column: str, in_block: bool) -> str:
    spots = _spots(template, in_block)
    names = {name for _, _, name in spots}
    if not column:
        for start, end, _ in reversed(spots):
            template = template[:start] + template[end:]
        return template.strip("\n") if spots else template
    if column in names or column == _joined(spots):
        return template
    if len(names) == 1:
        written = re.compile(rf"\{{\{{\s*{re.escape(spots[0][2])}\s*\}}\}}")
        for start, end, _ in reversed(spots):
            replaced = written.sub(lambda _: f"{{{{{column}}}}}", template[start:end], count=1)
            template = template[:start] + replaced + template[end:]
        return template
    if in_block:
        return f"[[{{{{{column}}}}}\n\n]]{template}"
    return f"{template.rstrip()}\n{{{{{column}}}}}" if template.strip() else f"{{{{{column}}}}}"


def _joined(spots: list[tuple[int, int, str]]) -> str:
    return " + ".join(dict.fromkeys(name for _, _, name in spots))


def _spots(template: str, in_block: bool) -> list[tuple[int, int, str]]:
    """Where placeholders stand, outside blocks or with their block, and the name of each."""
    spots = []
    for match in PIECE.finditer(template):
        name = match["name"]
        if in_block and match["block"] is not None:
            name = next((inner["name"] for inner in PIECE.finditer(match["block"]) if inner["name"]), None)
        elif in_block:
            name = None
        if name and name.strip():
            spots.append((match.start(), match.end(), name.strip()))
    return spots
