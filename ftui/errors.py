"""The one error that ftui raises on purpose, and how sentences name the first of many things."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice


class UserError(Exception):
    """Something that the person in front of ftui can put right; its text is shown to that person as it stands.

    The text is one or two plain sentences: what is wrong, where (file, row, column, key), and what to do about it.
    It names files as the person named them, never where they lie on this machine, and holds no token and no stack trace.
    The page shows it as a notice; the terminal prints it as one line and leaves with code 2.

    Everything else that is raised is a bug of ftui, and is meant to look like one.
    """


def listed(names: Iterable[str], most: int) -> str:
    """The first `most` names, and a sign where there are more; of a longer list only so many are asked for."""
    first = list(islice(names, most + 1))
    return ", ".join(first[:most]) + (" …" if len(first) > most else "")
