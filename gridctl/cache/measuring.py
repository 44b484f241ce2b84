"""Measuring: the evidence that prompts with known right answers have, as `population` draws it again.

Decides what a row of a table is: what `evidence.weigh` said of one prompt, while the production rule decided at an
error rate over the prompts before it. Word-for-word repeats are left out: the exact level answers those. Nothing of a
text is in a row. The same prompts in the same order, rates and seed give the same rows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridctl.cache.decision import Decider, DecisionSettings
from gridctl.cache.evidence import FEATURES
from gridctl.cache.exact import normalised
from gridctl.cache.memory import TextMemory
from gridctl.cache.model import WrongModel
from gridctl.cache.population import Population, Reach

LEAST_PROMPTS = 800
"""Prompts a table needs: of fewer a rule learns the rows by heart, and the shipped tables forecast as well."""
TOO_MANY_TIMES_ROOT, LEAST_ERROR = 5.5, 0.04
"""How far the share of hits forecast is from that of the texts, at most: too many, times the root of the prompts it was
measured on, and either way. With a sentence transformer the first 200, 500 and 1,000 prompts of four streams (the bank,
the home assistant, banking77, clinc150) gave up to 31, 21 and 17 points too many; 1,713 of clinc150 8 too many and
3,366 of it 3 too few."""
TOLD_EVERY = 100


@dataclass(frozen=True, slots=True)
class Rows:
    """Measured rows as columns: shapes `(n, len(FEATURES))` and `(n,)`; `rate` is the error rate of each."""

    features: NDArray[np.float32]
    is_wrong: NDArray[np.bool_]
    is_judged: NDArray[np.bool_]
    aliases: NDArray[np.int32]
    stored: NDArray[np.int32]
    rate: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.features)

    def every_second(self, first: int) -> Rows:
        """Half of the rows, from the first (0) or the second (1) on."""
        return self.only(np.arange(first, len(self), 2))

    def only(self, places: NDArray[np.int64]) -> Rows:
        """The rows at these places."""
        return Rows(*(getattr(self, name)[places] for name in Rows.__slots__))

    def population(self) -> Population:
        """The table to draw from. Raises InputError without rows."""
        return Population(self.features, self.is_wrong, self.is_judged, self.aliases, self.stored, self.rate)


def different(texts: Sequence[str], keys: Sequence[int]) -> list[int]:
    """Places of the prompts that have a right answer and repeat none before them word for word."""
    seen: set[str] = set()
    places = []
    for place, (text, key) in enumerate(zip(texts, keys, strict=True)):
        if key >= 0 and (same := normalised(text)) not in seen:
            seen.add(same)
            places.append(place)
    return places


def measured(
    texts: Sequence[str],
    keys: Sequence[int],
    vectors: NDArray[np.float32],
    rates: Sequence[float],
    seed: int = 1,
    advanced: Callable[[int], None] = lambda prompts: None,
) -> Rows:
    """Rows of a stream of different prompts, a pass for each of the error rates; `vectors` of shape `(n, d)`."""
    columns: list[list[object]] = [[], [], [], [], [], []]
    for rate in rates:
        memory, stored, entries = TextMemory(tuple(texts), vectors), Counter[int](), 0
        decider = Decider("measured", DecisionSettings(error_rate=rate), WrongModel(), seed)
        for number, key in enumerate(keys):
            evidence = memory.weigh(number, key)
            verdict = decider.decide(evidence, number)
            if number % TOLD_EVERY == TOLD_EVERY - 1:
                advanced(TOLD_EVERY)
            if evidence is not None:
                right = [memory.key_of(group) == key for group in evidence.judged]
                row = (evidence.features, not right[0], any(right), stored[key], entries, rate)
                for column, value in zip(columns, row, strict=True):
                    column.append(value)
                if verdict.kind == "serve":  # what is served is not stored, and that tells
                    continue
                if verdict.ticket is not None:
                    decider.label(verdict.ticket, not right[0], number)
                memory.label(evidence.group, right[0])
            memory.keep(number, key, evidence)
            stored[key] += 1
            entries += 1
    return _rows(columns)


def reach_of(prompts: int) -> Reach:
    """How far a share of hits forecast from so many measured prompts may be off; nearly always it is too large."""
    return Reach(max(LEAST_ERROR, TOO_MANY_TIMES_ROOT / math.sqrt(max(1, prompts))), LEAST_ERROR)


def joined(parts: Sequence[Rows]) -> Rows:
    """Rows of several streams in one table."""
    return Rows(*(np.concatenate([getattr(part, name) for part in parts]) for name in Rows.__slots__))


def _rows(columns: list[list[object]]) -> Rows:
    features, is_wrong, is_judged, aliases, stored, rate = columns
    return Rows(
        np.array(features, np.float32).reshape(-1, len(FEATURES)),
        np.array(is_wrong, np.bool_),
        np.array(is_judged, np.bool_),
        np.array(aliases, np.int32),
        np.array(stored, np.int32),
        np.array(rate, np.float32),
    )
