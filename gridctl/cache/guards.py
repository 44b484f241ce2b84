"""What two texts share and where they part: numbers, dates, units, negation, code and rare words embeddings blur.

Decides nothing: it measures; `evidence` turns the measures into features. The kept-mass share is

    R = mass(shared) / (mass(shared) + mass(left over in a) + mass(left over in b))

with mass the summed rarity of detail words, rarity(w) = ln((n + 1) / (texts with w + 1/2)), after Spärck Jones 1972.
Detail words are a text's words less grammar and common command words (`english`, English only), numbers kept. A
leftover word is one whose stem the other text lacks and that no word of it resembles (Dice of letter pairs ≥ 0.67).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import lru_cache

import msgspec

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
LONGEST_READ = 4096
"""Characters of a text that the guards read; what is longer never gets here (see `cacheable`)."""
_WORD = re.compile(r"\d+(?:[.,:]\d+)*|[^\W\d_]+(?:'[^\W\d_]+)?", re.UNICODE)
_MORE_GRAMMAR_THAN_NUMBER = frozenset(("one", "first", "once", "second"))
_CODE = re.compile(r"[{}\[\]<>=;`\\|^~$#@_]|//|::|->|\w\.\w+\(")
_SUFFIXES = ("ings", "ing", "edly", "ed", "ies", "es", "s", "ly")


class Reading(msgspec.Struct, frozen=True):
    """One text as the guards see it. `stems` are those of all words, `details` those of detail words; `polarity` has
    one
    entry for each pair of
    opposites (-1, 0, 1) after the parity of negations."""

    words: frozenset[str]
    stems: frozenset[str]
    details: frozenset[str]
    numbers: tuple[float, ...]
    dates: frozenset[str]
    units: frozenset[str]
    codes: tuple[str, ...]
    polarity: tuple[int, ...]
    is_negated: bool
    grams: frozenset[str]


class Comparison(msgspec.Struct, frozen=True):
    """Measures of a pair. Shares lie in [0, 1]; masses are in nats of rarity."""

    kept_share: float
    has_no_leftover: bool
    leftover_a: float
    leftover_b: float
    gram_overlap: float
    numbers_differ: bool
    dates_differ: bool
    units_differ: bool
    polarity_differs: bool
    code_differs: bool


class Rarity:
    """How rare words are among the texts seen so far."""

    __slots__ = ("_seen", "_texts")

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()
        self._texts = 0

    def add(self, reading: Reading) -> None:
        """Count a text's detail words once each."""
        self._texts += 1
        self._seen.update(reading.details)

    def of(self, word: str) -> float:
        """Rarity in nats, at least 0.1; the same for every word as long as nothing was seen."""
        return max(0.1, math.log((self._texts + 1.0) / (self._seen[word] + 0.5)))


@lru_cache(maxsize=65_536)
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
    return word.rstrip("e") if len(word) > 4 else word


def read(text: str) -> Reading:
    """Read a text once; its first 4,096 characters count."""
    text = text[:LONGEST_READ]
    words = [word.replace("'", "") for word in _WORD.findall(text.lower().replace("’", "'"))]
    spoken = set(words)
    numbers = sorted(_numbers(words))
    details = {_detail(word) for word in words if not _is_plain(word)}
    negations = sum(word in NEGATIONS for word in words)
    sides = tuple(int(bool(spoken & plus)) - int(bool(spoken & minus)) for plus, minus in OPPOSITES)
    squeezed = " " + " ".join(words) + " "
    return Reading(
        words=frozenset(spoken),
        stems=frozenset(map(stem, spoken)),
        details=frozenset(details),
        numbers=tuple(numbers),
        dates=frozenset(stem(word) for word in words if word in DATE_WORDS),
        units=frozenset(stem(word) for word in words if word in UNIT_WORDS),
        codes=tuple(sorted(_CODE.findall(text))),
        polarity=sides,
        is_negated=bool(negations % 2),
        grams=frozenset(squeezed[start : start + 3] for start in range(len(squeezed) - 2)),
    )


def compare(a: Reading, b: Reading, rarity: Rarity) -> Comparison:
    """Measure a pair. Symmetric up to which leftover is whose."""
    shared = a.details & b.details
    left_a, left_b = _leftover(a.details - shared, b.details), _leftover(b.details - shared, a.details)
    kept = shared | (a.details - shared - left_a)
    mass_kept, mass_a, mass_b = (sum(rarity.of(word) for word in sorted(words)) for words in (kept, left_a, left_b))
    total = mass_kept + mass_a + mass_b
    union = len(a.grams | b.grams)
    return Comparison(
        kept_share=mass_kept / total if total else 0.5,
        has_no_leftover=not (left_a or left_b) and bool(kept),
        leftover_a=mass_a,
        leftover_b=mass_b,
        gram_overlap=len(a.grams & b.grams) / union if union else 0.0,
        numbers_differ=a.numbers != b.numbers,
        dates_differ=a.dates != b.dates,
        units_differ=a.units != b.units,
        polarity_differs=_has_opposites(a, b),
        code_differs=a.codes != b.codes,
    )


def likeness(pair: Comparison) -> float:
    """How surely a pair wants one answer by wording alone, in [-0.5, 1.01]: the kept-mass share, less a half where
    numbers, dates or units differ; shared letter triples break ties."""
    differs = pair.numbers_differ or pair.dates_differ or pair.units_differ
    return pair.kept_share - 0.5 * differs + 0.01 * pair.gram_overlap


def _is_plain(word: str) -> bool:
    if word in FUNCTION_WORDS or word in COMMAND_WORDS or word in NEGATIONS:
        return True
    return len(word) == 1 and word.isascii() and word.isalpha()


def _detail(word: str) -> str:
    values = _numbers([word])
    return " ".join(f"{value:g}" for value in values) if values else stem(word)


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


def _leftover(words: frozenset[str], others: frozenset[str]) -> frozenset[str]:
    return frozenset(word for word in words if not any(_dice(word, other) >= ALIKE for other in others))


@lru_cache(maxsize=65_536)
def _pairs(word: str) -> frozenset[str]:
    return frozenset(word[start : start + 2] for start in range(len(word) - 1))


def _dice(a: str, b: str) -> float:
    if a[0].isdigit() or b[0].isdigit():
        return float(a == b)
    left, right = _pairs(a), _pairs(b)
    return 2.0 * len(left & right) / (len(left) + len(right)) if left and right else float(a == b)


def _has_opposites(a: Reading, b: Reading) -> bool:
    turns = 1 if a.is_negated == b.is_negated else -1
    sides = [one * other * turns for one, other in zip(a.polarity, b.polarity, strict=True)]
    if any(side < 0 for side in sides):
        return True
    return turns < 0 and not any(side > 0 for side in sides)
