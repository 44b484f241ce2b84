"""What two texts share and where they part: numbers, dates, units, negation, code and rare words embeddings blur.

Decides nothing: it measures; `evidence` turns the measures into features. The kept-mass share is

    R = mass(shared) / (mass(shared) + mass(left over in a) + mass(left over in b))

with mass the summed rarity of detail words, rarity(w) = ln((n + 1) / (texts with w + 1/2)), after Spärck Jones 1972.
Detail words are a text's words less grammar and common command words (`english`, English only), numbers kept. A
leftover word is one whose stem the other text lacks and that no word of it resembles (Dice of letter pairs ≥ 0.67).

A reading is kept for every stored prompt, so it is small: words in one text, letter triples as sorted numbers.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from functools import lru_cache

import msgspec
import numpy as np

from gridctl.cache.words import PAIRS_OF_SIDES, facts_of, resembling

LONGEST_READ = 4096
"""Characters of a text that the guards read; what is longer never gets here (see `cacheable`)."""
_WORD = re.compile(r"\d+(?:[.,:]\d+)*|[^\W\d_]+(?:'[^\W\d_]+)?", re.UNICODE)
_CODE = re.compile(r"[{}\[\]<>=;`\\|^~$#@_]|//|::|->|\w\.\w+\(")


class Reading(msgspec.Struct, frozen=True, gc=False):
    """One text as the guards see it. Sets of words are texts with a word on each line, in order; `word_count` counts
    different words; `polarity` has a bit for each pair of opposites on whose one side the text stands, and as many bits
    further up one for the other side; `triples` are letter triples as ascending uint32 (one number for each triple of
    Latin letters, for other scripts almost always)."""

    word_count: int
    stem_lines: str
    detail_lines: str
    numbers: tuple[float, ...]
    dates: str
    units: str
    codes: str
    polarity: int
    is_negated: bool
    triples: bytes

    @property
    def stems(self) -> frozenset[str]:
        """Stems of all words."""
        return _set_of(self.stem_lines)

    @property
    def details(self) -> frozenset[str]:
        """Detail words."""
        return _set_of(self.detail_lines)


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
        return max(0.1, math.log((self._texts + 1.0) / (self._seen.get(word, 0) + 0.5)))


def read(text: str) -> Reading:
    """Read a text once; its first 4,096 characters count."""
    text = text[:LONGEST_READ]
    words = [word.replace("'", "") for word in _WORD.findall(text.lower().replace("’", "'"))]
    stems, details, dates, units = set[str](), set[str](), set[str](), set[str]()
    numbers, negations, sides = list[float](), 0, 0
    for word in words:
        facts = facts_of(word)
        stems.add(facts.stem)
        if facts.detail:
            details.add(facts.detail)
        if facts.is_marked:
            numbers += facts.numbers
            negations += facts.is_negation
            sides |= facts.sides
            if facts.is_date:
                dates.add(facts.stem)
            if facts.is_unit:
                units.add(facts.stem)
    plus, minus = sides & ((1 << PAIRS_OF_SIDES) - 1), sides >> PAIRS_OF_SIDES
    both = plus & minus
    return Reading(
        word_count=len(set(words)),
        stem_lines=_lines(stems),
        detail_lines=_lines(details),
        numbers=tuple(sorted(numbers)),
        dates=_lines(dates),
        units=_lines(units),
        codes="\n".join(sorted(_CODE.findall(text))),
        polarity=(plus & ~both) | (minus & ~both) << PAIRS_OF_SIDES,
        is_negated=bool(negations % 2),
        triples=_triples(" " + " ".join(words) + " "),
    )


def compare(a: Reading, b: Reading, rarity: Rarity) -> Comparison:
    """Measure a pair. Symmetric up to which leftover is whose."""
    mine, theirs = a.details, b.details
    shared = mine & theirs
    rest_a, rest_b = mine - shared, theirs - shared
    left_a, left_b = _leftover(rest_a, theirs), _leftover(rest_b, mine)
    kept = shared | (rest_a - left_a)
    mass_kept, mass_a, mass_b = (sum(map(rarity.of, sorted(words))) for words in (kept, left_a, left_b))
    total = mass_kept + mass_a + mass_b
    return Comparison(
        kept_share=mass_kept / total if total else 0.5,
        has_no_leftover=not (left_a or left_b) and bool(kept),
        leftover_a=mass_a,
        leftover_b=mass_b,
        gram_overlap=_overlap(a.triples, b.triples),
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


def _leftover(words: frozenset[str], others: frozenset[str]) -> frozenset[str]:
    return words - resembling(words, others) if words and others else words


def _has_opposites(a: Reading, b: Reading) -> bool:
    turned = ((b.polarity << PAIRS_OF_SIDES) | (b.polarity >> PAIRS_OF_SIDES)) & ((1 << 2 * PAIRS_OF_SIDES) - 1)
    same, apart = a.polarity & b.polarity, a.polarity & turned
    if a.is_negated == b.is_negated:
        return bool(apart)
    return bool(same) or not apart


def _overlap(a: bytes, b: bytes) -> float:
    """Shared letter triples over all of two texts."""
    if not a or not b:
        return 0.0
    mine, theirs = np.frombuffer(a, np.uint32), np.frombuffer(b, np.uint32)
    near = theirs.take(theirs.searchsorted(mine), mode="clip")
    shared = int(np.count_nonzero(near == mine))
    return shared / (len(mine) + len(theirs) - shared)


def _triples(text: str) -> bytes:
    letters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    if len(letters) < 3:
        return b""
    codes = letters[:-2] + (letters[1:-1] << np.uint32(11)) + (letters[2:] << np.uint32(22))
    codes.sort()
    is_first = np.empty(len(codes), bool)
    is_first[0] = True
    np.not_equal(codes[1:], codes[:-1], out=is_first[1:])
    return bytes(codes[is_first].tobytes())


def _lines(words: set[str]) -> str:
    return "\n".join(sorted(words))


@lru_cache(maxsize=512)
def _set_of(lines: str) -> frozenset[str]:
    return frozenset(lines.split("\n")) if lines else frozenset()
