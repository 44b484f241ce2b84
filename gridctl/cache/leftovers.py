"""Words in which prompts of one answer differ, and words in which prompts of different answers do: learnt, not listed.

Decides nothing: it measures; `evidence` turns the measure into features. A word that one of two prompts has and the
other lacks is left over. Each word is counted in pairs that want one answer and in pairs that do not; its weight is

    ln((different + π_d) / (same + π_s)) − ln(π_d / π_s),   π the shares of the two kinds of pair among all,

0 for a word never seen: "please" goes below 0, a room's name above it, whatever the language. All words count here,
grammar and command words too, by their stems. A naive Bayes weight of evidence (Good 1950) with one pair as prior.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

from gridctl.cache.guards import Reading

MOST_WORDS = 200_000
"""Words counted; when there are more, those seen once are forgotten."""
MOST_SUM, MOST_ONE, MOST_NEW = 8.0, 6.0, 6


class Leftover(NamedTuple):
    """Weights of the words left over between two prompts: their sum, the largest, and how many words were never seen.
    Within ±8, 0 … 6 and 0 … 6."""

    weight: float
    heaviest: float
    unseen: int


class LeftoverRecord:
    """Pairs and words counted so far."""

    def __init__(self) -> None:
        self._same: Counter[str] = Counter()
        self._different: Counter[str] = Counter()
        self._pairs = [0, 0]

    def learn(self, a: Reading, b: Reading, *, is_same: bool) -> None:
        """Count a pair of prompts that want one answer, or two."""
        self._pairs[is_same] += 1
        (self._same if is_same else self._different).update(a.stems ^ b.stems)
        for words in (self._same, self._different):
            if len(words) > MOST_WORDS:
                _forget_rare(words)

    def measure(self, a: Reading, b: Reading) -> Leftover:
        """The words left over between two prompts. Symmetric."""
        apart, together = self._different.get, self._same.get
        different, same = self._pairs[False] + 1.0, self._pairs[True] + 1.0
        share_apart, share_together = different / (different + same), same / (different + same)
        prior = math.log(share_apart / share_together)
        words = sorted(a.stems ^ b.stems)
        if not words:
            return _NOTHING
        weights = [
            math.log((apart(one, 0) + share_apart) / (together(one, 0) + share_together)) - prior for one in words
        ]
        # A word that was never seen weighs nothing, and few others do.
        unseen = 0 if all(weights) else sum(not (apart(one, 0) or together(one, 0)) for one in words)
        total, heaviest = sum(weights), max(0.0, *weights)
        return Leftover(max(-MOST_SUM, min(MOST_SUM, total)), min(heaviest, MOST_ONE), min(unseen, MOST_NEW))


_NOTHING = Leftover(0.0, 0.0, 0)


def _forget_rare(words: Counter[str]) -> None:
    for word in [word for word, count in words.items() if count < 2]:
        del words[word]
