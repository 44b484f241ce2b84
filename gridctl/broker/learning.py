"""Learning: what ended requests teach: how long answers are, how many tokens a byte of text is, how far predictions
were off. Every estimate starts from what was declared, which counts as a few observations, and forgets slowly.

Corrections are ratios of sums, observed over predicted, with weights that halve every 22 observations. An observation
counts as at most `MOST_STEP` times what was expected of it by then, either way: one hung request must not empty an
engine, nor one lie fill it, but an engine that is a hundred times slower than declared is known as such in a minute.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

_exp2: Final = math.exp2
_log2: Final = math.log2
KEPT: Final = 1.0 - 1.0 / 32.0
"""A weight halves in 22 observations: 0.96875 ** 22 = 0.5."""
PRIOR_OBSERVATIONS: Final = 4.0
MOST_STEP: Final = 4.0
MOST_RATIO: Final = 256.0
LEAST_RATIO: Final = 1.0 / MOST_RATIO
STEPS: Final = 16
LEAST_SPREAD: Final = 0.02
"""Of what is compared: with always the same number ahead nobody can tell their wait from the engine's own time."""
MOST_WAIT_US: Final = 60e6
"""Of a wait per request ahead: an engine that needs longer for one is no faster in any decision."""
PRIOR_REQUESTS: Final = 16
"""As in a replay: how many finished requests a workload's declared mean output weighs as much as."""
MOST_REQUESTS: Final = 4096
"""Finished requests remembered per workload; then both sums are halved, so that habits may change."""
LONGEST_ANSWER: Final = 1 << 20
"""Tokens an engine is believed to have answered with."""
TOKENS_PER_BYTE: Final = 0.25
PRIOR_BYTES: Final = 16_384.0
MOST_BYTES: Final = 4_194_304.0
FEWEST_PER_BYTE: Final = 0.02
MOST_PER_BYTE: Final = 1.0


class Lengths:
    """Expected answer lengths by workload; `declared` are its means in tokens."""

    def __init__(self, declared: Mapping[str, int]) -> None:
        self._declared = dict(declared)
        self._sums = {name: [0, 0] for name in declared}

    def expected(self, workload: str, most: int | None) -> int:
        """Tokens to expect, at least 1 and at most what the client allows."""
        finished, tokens = self._sums[workload]
        mean = (tokens + PRIOR_REQUESTS * self._declared[workload]) // (finished + PRIOR_REQUESTS)
        return max(1, mean if most is None else min(mean, most))

    def learn(self, workload: str, tokens: int) -> None:
        """An answer of that workload had so many tokens."""
        sums = self._sums.get(workload)
        if sums is None:
            return
        sums[0] += 1
        sums[1] += tokens if tokens < LONGEST_ANSWER else LONGEST_ANSWER
        if sums[0] >= MOST_REQUESTS:
            sums[0] //= 2
            sums[1] //= 2

    def adopt(self, other: Lengths) -> None:
        """Take over what another plan's workloads of the same names have taught."""
        for name, sums in other._sums.items():
            if name in self._sums:
                self._sums[name] = sums


class TokenRates:
    """Tokens per byte of text by model, from what engines report of prompts."""

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = {}

    def rate(self, model: str) -> float:
        """Tokens to expect of a byte."""
        sums = self._sums.get(model)
        return TOKENS_PER_BYTE if sums is None else sums[1] / sums[0]

    def learn(self, model: str, text_bytes: int, tokens: int) -> None:
        """A prompt of so many bytes had so many tokens; nonsense is not believed."""
        if text_bytes <= 0 or not FEWEST_PER_BYTE <= tokens / text_bytes <= MOST_PER_BYTE:
            return
        sums = self._sums.get(model)
        if sums is None:
            sums = self._sums[model] = [PRIOR_BYTES, PRIOR_BYTES * TOKENS_PER_BYTE]
        sums[0] += text_bytes
        sums[1] += tokens
        if sums[0] > MOST_BYTES:
            sums[0] /= 2
            sums[1] /= 2


def rounded(factor: float) -> float:
    """The factor on a scale of `STEPS` to the double: engines that are equal but for noise are predicted alike, so
    that they share the work; else the one that seems a thousandth faster would get all that it can do in time.

    >>> rounded(1.0), round(rounded(1.01), 3), round(rounded(2.9), 3)
    (1.0, 1.0, 2.954)
    """
    bounded = LEAST_RATIO if factor < LEAST_RATIO else MOST_RATIO if factor > MOST_RATIO else factor
    return _exp2(round(_log2(bounded) * STEPS) / STEPS)


class Correction:
    """How far one engine's predictions of one quantity were off, as the factor that would have set them right. Before
    the first observation it is `prior`, which then counts as `PRIOR_OBSERVATIONS` of the first one's size."""

    __slots__ = ("_observed", "_predicted", "factor", "prior")

    def __init__(self) -> None:
        self._observed = self._predicted = 0.0
        self.factor = self.prior = 1.0

    def learn(self, predicted: float, observed: float) -> float:
        """Take in one observation in the prediction's unit; returns the new factor."""
        if predicted <= 0.0 or observed <= 0.0:
            return self.factor
        if self._predicted == 0.0:
            self._predicted = PRIOR_OBSERVATIONS * predicted
            self._observed = self.prior * self._predicted
        # For every request: comparisons cost a third of what calls of min and max do.
        expected = predicted * self._observed / self._predicted
        least, most = expected / MOST_STEP, expected * MOST_STEP
        self._observed = KEPT * self._observed + (least if observed < least else most if observed > most else observed)
        self._predicted = KEPT * self._predicted + predicted
        ratio = self._observed / self._predicted
        self.factor = LEAST_RATIO if ratio < LEAST_RATIO else MOST_RATIO if ratio > MOST_RATIO else ratio
        return self.factor


class WaitCorrection:
    """How far one engine's predictions of the time to the first token were off: a factor, and a wait for every request
    ahead that its profile does not know of.

    Fits observed = factor · predicted + wait · requests ahead by least squares, weighted by 1 / predicted so that with
    nobody ahead the factor is `Correction`'s ratio of sums. An engine that serves one request after another shows in
    the wait: the factor alone would only say that it was slow on average, whoever is waiting now."""

    __slots__ = ("_ahead", "_cross", "_observed", "_predicted", "_square", "factor", "prior", "wait_us")

    def __init__(self) -> None:
        self._predicted = self._observed = self._ahead = self._square = self._cross = 0.0
        self.factor = self.prior = 1.0
        self.wait_us = 0.0

    def learn(self, predicted: float, ahead: int, observed: float) -> None:
        """Take in one observation in µs, made with so many requests ahead. O(1)."""
        if predicted <= 0.0 or observed <= 0.0:
            return
        if self._predicted == 0.0:
            self._predicted = PRIOR_OBSERVATIONS * predicted
            self._observed = self.prior * self._predicted
            self._square = PRIOR_OBSERVATIONS / predicted  # as many with one ahead, who made nobody wait
        expected = self.factor * predicted + self.wait_us * ahead
        least, most = expected / MOST_STEP, expected * MOST_STEP
        taken = least if observed < least else most if observed > most else observed
        self._predicted = KEPT * self._predicted + predicted
        self._observed = KEPT * self._observed + taken
        self._ahead = KEPT * self._ahead + ahead
        self._square = KEPT * self._square + ahead * ahead / predicted
        self._cross = KEPT * self._cross + ahead * taken / predicted
        self._fit()

    def _fit(self) -> None:
        predicted, observed, ahead, square = self._predicted, self._observed, self._ahead, self._square
        spread = square * predicted - ahead * ahead
        wait = 0.0
        if spread > LEAST_SPREAD * square * predicted:
            wait = (self._cross * predicted - ahead * observed) / spread
            wait = 0.0 if wait < 0.0 else MOST_WAIT_US if wait > MOST_WAIT_US else wait
        factor = (observed - wait * ahead) / predicted
        if factor < LEAST_RATIO:
            factor = LEAST_RATIO
            wait = min(MOST_WAIT_US, max(0.0, (self._cross - ahead * factor) / square))
        self.factor, self.wait_us = (MOST_RATIO if factor > MOST_RATIO else factor), wait
