"""Words one at a time: stem, number, kind, and which other words one resembles.

Decides nothing. English where it needs a list (`english`). What is known of a word is remembered, in bounded room:
of 50,000 different words at most, and of none with more than 24 letters (scripts without spaces have those, seldom
twice). Words resemble each other when the Dice of their pairs of letters is at least 0.67; numbers resemble nothing.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from functools import lru_cache
from typing import NamedTuple

from gridctl.cache.english import (
    COMMAND_WORDS,
    DATE_WORDS,
    FUNCTION_WORDS,
    NEGATIONS,
    NUMBER_WORDS,
    OPPOSITES,
    UNIT_WORDS,
)

ALIKE = 0.67
PAIRS_OF_SIDES = len(OPPOSITES)
_LONGEST_KNOWN = 24
_FEW = 1_000
"""Comparisons of words below which it does not pay to sort them by their letters first."""
_MORE_GRAMMAR_THAN_NUMBER = frozenset(("one", "first", "once", "second"))
_SUFFIXES = ("ings", "ing", "edly", "ed", "ies", "es", "s", "ly")


class Facts(NamedTuple):
    """What is to be known of a word; `detail` is empty for a plain one, `is_marked` when any of what follows counts."""

    stem: str
    detail: str
    is_marked: bool
    numbers: list[float]
    is_negation: bool
    is_date: bool
    is_unit: bool
    sides: int


def facts_of(word: str) -> Facts:
    """What is to be known of a word in small letters."""
    return _known_facts(word) if len(word) <= _LONGEST_KNOWN else _facts(word)


def resembling(words: frozenset[str], others: frozenset[str]) -> set[str]:
    """Those of `words` that resemble any of `others`."""
    if not words or not others:
        return set()
    return _alike(words, others) if len(words) * len(others) <= _FEW else _alike_of_many(words, others)


def stem(word: str) -> str:
    """A word without its commonest endings; the same for forms of one word more often than not.

    >>> stem("lights"), stem("playing"), stem("parties")
    ('light', 'play', 'party')
    """
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3 and not word.endswith("ss"):
            cut = word[: -len(suffix)]
            if suffix == "ies":
                return cut + "y"
            return cut[:-1] if len(cut) > 3 and cut[-1] == cut[-2] and cut[-1] not in "lse" else cut.rstrip("e") or cut
    return (word.rstrip("e") or word) if len(word) > 4 else word


def _facts(word: str) -> Facts:
    numbers, is_negation = _numbers([word]), word in NEGATIONS
    is_date, is_unit = word in DATE_WORDS, word in UNIT_WORDS
    sides = 0
    for place, (plus, minus) in enumerate(OPPOSITES):
        sides |= (word in plus) << place | (word in minus) << (place + PAIRS_OF_SIDES)
    is_marked = bool(numbers or is_negation or is_date or is_unit or sides)
    root = stem(word)
    detail = " ".join(f"{value:g}" for value in numbers) if numbers else root
    detail = "" if _is_plain(word) else detail
    return Facts(root, detail, is_marked, numbers, is_negation, is_date, is_unit, sides)


def _is_plain(word: str) -> bool:
    if word in FUNCTION_WORDS or word in COMMAND_WORDS or word in NEGATIONS:
        return True
    return len(word) == 1 and word.isascii() and word.isalpha()


def _numbers(words: list[str]) -> list[float]:
    found: list[float] = []
    for word in words:
        if word[0].isdigit():
            digits = word.replace(",", "").replace(":", ".")
            try:
                found.append(float(digits))
            except ValueError:
                found.extend(float(part) for part in digits.split(".") if part.isdecimal())
        elif word in NUMBER_WORDS and word not in _MORE_GRAMMAR_THAN_NUMBER:
            found.append(float(NUMBER_WORDS[word]))
    return [value for value in found if math.isfinite(value)]


def _alike(words: frozenset[str], others: frozenset[str]) -> set[str]:
    sizes = [(len(pairs), pairs) for pairs in map(_pairs, others) if pairs]
    found = set[str]()
    for word in words:
        mine = _pairs(word)
        size = len(mine)
        for other, pairs in sizes:
            shorter = size if size < other else other
            if 2.0 * shorter / (size + other) >= ALIKE and 2.0 * len(mine & pairs) / (size + other) >= ALIKE:
                found.add(word)
                break
    return found


def _alike_of_many(words: frozenset[str], others: frozenset[str]) -> set[str]:
    """The same for long texts: only words that share a pair of letters are compared."""
    sizes = [len(_pairs(other)) for other in others]
    holders = defaultdict[str, list[int]](list)
    for place, other in enumerate(others):
        for pair in _pairs(other):
            holders[pair].append(place)
    found = set[str]()
    for word in words:
        mine = _pairs(word)
        shared = Counter[int]()
        for pair in mine:
            shared.update(holders.get(pair, ()))
        if any(2.0 * count / (len(mine) + sizes[place]) >= ALIKE for place, count in shared.items()):
            found.add(word)
    return found


def _pairs(word: str) -> frozenset[str]:
    """A word's pairs of letters, none of a number: numbers resemble nothing."""
    return _known_pairs(word) if len(word) <= _LONGEST_KNOWN else _letter_pairs(word)


def _letter_pairs(word: str) -> frozenset[str]:
    return frozenset() if word[0].isdigit() else frozenset(map("".join, itertools.pairwise(word)))


_known_facts = lru_cache(maxsize=32_768)(_facts)
_known_pairs = lru_cache(maxsize=16_384)(_letter_pairs)
