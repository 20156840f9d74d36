"""Near duplicates among many texts: MinHash proposes pairs, exact counting decides.

A text is the set of its neighboring words. What many texts share, such as an instruction that is repeated in every row,
says nothing about two of them, so it does not count. Words are hashed where they lie in Arrow's memory, without ever
becoming Python's; only pairs that are proposed are read.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

ALIKE = 0.85
COMMON = 0.02  # of all texts, and at least 20
BANDS, WIDTH = 8, 4  # finds 99.7 % of the pairs at 0.85 and 40 % of those at 0.5
AGREEING = 0.5  # of their hashes, or two texts are not read: far below ALIKE, as 32 hashes are but an estimate
BATCH = 4_000
LONGEST = 10_000  # characters of a side that are looked at
KEPT = 5_000  # texts in words, for those that are proposed more than once

_WORD = re.compile(r"[぀-ヿ㐀-鿿가-힣]|[^\W぀-ヿ㐀-鿿가-힣]+")
_BLANKS = str.maketrans(dict.fromkeys(string.punctuation, " "))
_BETWEEN = " \x01 "  # a word that no text holds, so that question and answer do not run into each other
_NONE = (1 << 32) - 1
_BUCKETS = 1 << 22
_FNV_PRIME = 0x100000001B3  # of FNV in 64 bits: its powers spread small numbers over all bits
_MIX = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # the multipliers of splitmix64
_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio, as in Fibonacci hashing and splitmix64

Text = list[list[str]]  # paragraphs of words


def near_duplicates(asked: pa.ChunkedArray, answers: pa.ChunkedArray) -> list[tuple[int, int]]:
    """Pairs (earlier, later) whose questions are alike and whose answers are, too; each later one once.

    Equal texts are pairs as well. Same context with another question, or same question with another answer, is none.
    """

    @lru_cache(KEPT)
    def words(side: int, place: int) -> Text:
        return _words((asked, answers)[side][place].as_py())

    found: dict[int, int] = {}
    for earlier, later in _proposed(asked, answers):
        if later not in found and all(_alike(words(side, earlier), words(side, later)) for side in (0, 1)):
            found[later] = earlier
    return [(earlier, later) for later, earlier in sorted(found.items())]


def _words(text: str) -> Text:
    return [
        part.translate(_BLANKS).split() if part.isascii() else _WORD.findall(part)
        for part in text.lower().split("\n\n")
    ]


def _alike(one: Text, other: Text) -> bool:
    """Paragraph by paragraph, so that a long context does not hide that something else is asked."""
    if len(one) != len(other):
        one, other = [list(chain.from_iterable(one))], [list(chain.from_iterable(other))]
    return all(map(_are_alike, one, other))


def _are_alike(one: list[str], other: list[str]) -> bool:
    if one == other:
        return True
    left, right = set(pairwise(one)), set(pairwise(other))
    return bool(left or right) and len(left & right) >= ALIKE * len(left | right)


def _proposed(asked: pa.ChunkedArray, answers: pa.ChunkedArray) -> list[tuple[int, int]]:
    """Candidates: in each band, texts with the same smallest hashes, each beside its neighbor and the first of them."""
    import numpy as np

    signatures = _signatures(list(_shingles(asked, answers)))
    chosen = np.flatnonzero(signatures[0] < _NONE) if signatures.size else np.array([], dtype=np.int64)
    pairs = [np.empty((2, 0), dtype=np.int64)]
    for band in range(BANDS):
        # One key for the band's hashes: texts that are alike in all of them have the same.
        keys = np.zeros(len(chosen), dtype=np.uint64)
        for row in signatures[band * WIDTH : (band + 1) * WIDTH, chosen]:
            keys = (keys ^ row) * np.uint64(_GOLDEN)
        # Sorted by key, equal ones stand side by side. All pairs of a large group would be too many, so each text is paired
        # with the one before it and with the group's first.
        order = np.argsort(keys, kind="stable")
        same = keys[order][1:] == keys[order][:-1]
        place = np.arange(len(order))
        first = np.maximum.accumulate(np.where(np.concatenate([[True], ~same])[: len(order)], place, 0))
        numbers = chosen[order]
        later = place[1:][same]
        pairs += [np.stack([numbers[later - 1], numbers[later]]), np.stack([numbers[first[later]], numbers[later]])]
    # Two texts have about as many hashes in common as their sets have words; what has too few need not be read.
    found = np.unique(np.sort(np.concatenate(pairs, axis=1), axis=0), axis=1)
    agree = [(signatures[:, part[0]] == signatures[:, part[1]]).mean(axis=0) for part in _parts(found)]
    keep = np.concatenate([*agree, np.array([])]) >= AGREEING
    return [(int(one), int(other)) for one, other in found[:, keep].T if one != other]


def _parts(pairs: np.ndarray) -> list[np.ndarray]:
    """So many at a time that their hashes take megabytes, not gigabytes."""
    return [pairs[:, start : start + 100_000] for start in range(0, pairs.shape[1], 100_000)]


def _shingles(asked: pa.ChunkedArray, answers: pa.ChunkedArray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """In batches of texts: a hash of each two neighboring words, and how many of them each text has."""
    import numpy as np

    for start in range(0, len(asked), BATCH):
        letters, limits = _letters(asked.slice(start, BATCH), answers.slice(start, BATCH))
        words, owners = _hashed_words(letters, limits)
        # As splitmix64 mixes its state, with the second word let in halfway: “a b” is not “b a”.
        mixed = (words[:-1] ^ (words[:-1] >> np.uint64(29))) * np.uint64(_MIX[0]) + words[1:]
        mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(_MIX[1])
        # The last word of a text and the first of the next one are no neighbors.
        together = owners[:-1] == owners[1:]
        counts = np.bincount(owners[:-1][together], minlength=len(limits) - 1)
        # A product's upper half is the better mixed one.
        yield (mixed[together] >> np.uint64(32)).astype(np.uint32), counts


def _letters(asked: pa.ChunkedArray, answers: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """The bytes of all texts in UTF-8, one text behind the other, and where each begins and the last one ends."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    sides = [pc.utf8_slice_codeunits(side, 0, LONGEST) for side in (asked, answers)]
    part = pc.binary_join_element_wise(*sides, pa.scalar(_BETWEEN, pa.large_string()))
    texts = pc.utf8_lower(pa.concat_arrays(part.chunks) if isinstance(part, pa.ChunkedArray) else part)
    _, ends, data = texts.buffers()
    limits = np.frombuffer(ends, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return np.frombuffer(data, np.uint8)[limits[0] : limits[-1]], limits - limits[0]


def _hashed_words(letters: np.ndarray, limits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A hash of each word, in their order, and the number of the text that it stands in."""
    import numpy as np

    # What belongs to words, by byte: letters and digits, the mark between two sides, and all that is not ASCII.
    is_word = np.array([chr(byte).isalnum() or byte < 2 or byte > 127 for byte in range(256)])
    alone = np.zeros(256, dtype=bool)
    alone[0xE3:0xEE] = True  # Chinese, Japanese and Korean letters begin so in UTF-8: each is a word

    # A word begins behind what belongs to none, with each letter that is one alone, and with its text.
    inside = is_word[letters]
    begins = inside & (alone[letters] | np.concatenate([[True], ~inside[:-1]]))
    firsts = limits[:-1][limits[:-1] < len(letters)]  # empty texts at the end begin behind all letters
    begins[firsts] |= inside[firsts]
    places = np.flatnonzero(begins)
    if not len(places):
        return np.array([], dtype=np.uint64), np.array([], dtype=np.int64)

    # Each byte weighs by its depth in its word, so that the order of letters counts; what belongs to no word weighs nothing,
    # wherever it stands. From the 256th letter on all weigh alike.
    powers = np.cumprod(np.full(256, _FNV_PRIME, dtype=np.uint64))
    ordinal = np.cumsum(begins, dtype=np.int64) - 1
    depth = np.clip(np.arange(len(letters)) - places[ordinal], 0, 255)
    weighed = np.where(inside, (letters.astype(np.uint64) + np.uint64(1)) * powers[depth], np.uint64(0))
    return np.add.reduceat(weighed, places), np.searchsorted(limits, places, side="right") - 1


def _signatures(batches: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The smallest hash of each text's neighboring words under 32 hash functions: [32, texts]; the largest number where it has none."""
    import numpy as np

    total = sum(len(counts) for _, counts in batches)
    often = np.zeros(_BUCKETS, dtype=np.int64)
    for shingles, _ in batches:
        often += np.bincount(shingles & (_BUCKETS - 1), minlength=_BUCKETS)
    # Counted by their last bits: that a rare one falls together with a common one costs a little of one text.
    is_rare = often <= max(20, COMMON * total)
    # A hash function is an odd factor, which keeps numbers apart that are, and a shift that brings the upper bits down.
    factors = np.random.default_rng(7).integers(1, 1 << 31, BANDS * WIDTH, dtype=np.uint32) * 2 + 1
    signatures = np.full((BANDS * WIDTH, total), _NONE, dtype=np.uint32)
    first = 0
    for shingles, counts in batches:
        owners = np.repeat(np.arange(len(counts)), counts)
        rare = is_rare[shingles & (_BUCKETS - 1)]
        # A text of nothing but common words is still compared, as a whole.
        rare |= ~np.isin(owners, owners[rare])
        shingles, owners = shingles[rare], owners[rare]
        if len(shingles):
            starts = np.flatnonzero(np.concatenate([[True], owners[1:] != owners[:-1]]))
            for place, factor in enumerate(factors.astype(np.uint32)):
                hashes = shingles * factor
                hashes ^= hashes >> np.uint32(15)
                signatures[place, first + owners[starts]] = np.minimum.reduceat(hashes, starts)
        first += len(counts)
    return signatures
