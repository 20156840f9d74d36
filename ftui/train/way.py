"""The way of a training: what its config leaves open."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from ftui.plan import Choice
from ftui.ranks import ALONE, Ranks


class Way(NamedTuple):
    """Who trains, in which passes, and from where.

    With a `choice` a batch is a whole step, which goes through the model in as many passes as the choice says; without,
    batches are those of the config. `start`: a folder with the adapter to go on from, in place of a new one.
    """

    ranks: Ranks = ALONE
    choice: Choice | None = None
    start: Path | None = None


USUAL = Way()
