"""Paces: how long engines took of late for requests of one class, so that a hit can take as long as one of them.

Where everybody may get an answer, a quick one tells that somebody asked. So a hit there waits for what an engine took
for one of the `NEAREST` requests most like it, in prompt and answer, among the last `MOST` of its class, drawn at
random; a stream then comes at that engine's pace. Where nothing is known yet there is nothing to look like, and a hit
is none. What is hidden is the time, drawn from the misses' own distribution, no more: an engine that has a prompt's
prefix cached is quicker, too. Source: Schinzel 2011, "An Efficient Mitigation Method for Timing Side Channels on the
Web", for why a delay has to be drawn from what it hides among, and not added at random.
"""

from __future__ import annotations

import math
import random
from collections import deque
from typing import NamedTuple

MOST = 64
NEAREST = 8
MOST_CLASSES = 256
"""Classes of requests; beyond them all are forgotten."""

Class = tuple[object, ...]


class Pace(NamedTuple):
    """To the first token of a stream, or to the whole answer, and from a token to the next, in seconds."""

    first_s: float
    token_s: float


class Paces:
    """The paces of one worker. `generator` draws; who could foresee it could tell hits by it."""

    def __init__(self, generator: random.Random | None = None) -> None:
        self._generator = generator or random.SystemRandom()
        self._seen: dict[Class, deque[tuple[float, float, Pace]]] = {}

    def clear(self) -> None:
        """Forget all."""
        self._seen.clear()

    def learn(self, kind: Class, prompt_tokens: int, output_tokens: int, pace: Pace) -> None:
        """An engine took so long."""
        seen = self._seen.get(kind)
        if seen is None:
            if len(self._seen) >= MOST_CLASSES:
                self._seen.clear()
            seen = self._seen[kind] = deque(maxlen=MOST)
        seen.append((math.log1p(prompt_tokens), math.log1p(output_tokens), pace))

    def knows(self, kind: Class) -> bool:
        """Whether there is a pace to take for such requests."""
        return kind in self._seen

    def draw(self, kind: Class, prompt_tokens: int, output_tokens: int) -> Pace | None:
        """What an engine might take for a request of so many tokens; None where nothing is known. O(MOST)."""
        seen = self._seen.get(kind)
        if seen is None:
            return None
        prompt, output = math.log1p(prompt_tokens), math.log1p(output_tokens)
        nearest = sorted(seen, key=lambda one: abs(one[0] - prompt) + abs(one[1] - output))[:NEAREST]
        return nearest[self._generator.randrange(len(nearest))][2]
