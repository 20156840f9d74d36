"""Special tokens inside data: they are read as the text they are and never obeyed."""

from __future__ import annotations

import re
from collections.abc import Iterable

_SHIELDED = re.compile("\ue000(.)\ue001")


class SpecialTokens:
    """The special tokens of one tokenizer; `pattern` finds any of them.

    One inside data stands as E000 + (E100 + its number) + E001 while the template is rendered, and is cut in two before
    it is tokenized. E000 itself is shielded as well, so that data may hold it.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        self._tokens = [*tokens, "\ue000"]
        self.pattern = "|".join(map(re.escape, sorted(self._tokens, key=len, reverse=True)))
        self._any = re.compile(self.pattern)

    def shield(self, text: str) -> str:
        return self._any.sub(lambda match: f"\ue000{chr(0xE100 + self._tokens.index(match[0]))}\ue001", text)

    def cut(self, text: str) -> Iterable[str]:
        """Shielded text, cut within each special token of the data, which so becomes the text it is."""
        for index, part in enumerate(_SHIELDED.split(text)):
            if index % 2:
                token = self._tokens[ord(part) - 0xE100]
                yield from (token[:1], token[1:])
            else:
                yield part
