"""Where the names of the columns stand in a table that begins with a title, as reports do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

LOOKED_AT = 40  # rows that are not empty


def header_place(rows: Sequence[Sequence[object]]) -> int:
    """The first row that fills most of the columns that the rows beneath it fill, or reaches as far as they do."""
    filled = [{place for place, cell in enumerate(cells) if cell not in (None, "")} for cells in rows]
    if not any(filled[:1]):
        return 0
    for place, own in enumerate(filled):
        beneath = filled[place + 1 :]
        counts = Counter(column for each in beneath for column in each)
        usual = {column for column, count in counts.items() if 2 * count >= len(beneath)}
        if 2 * len(own & usual) > len(usual) or max(own, default=-1) >= max(usual, default=-1):
            return place
    return 0
