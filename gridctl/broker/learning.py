"""Learning: what ended requests teach: how long answers are, how many tokens a byte of text is, how far predictions
were off. Every estimate starts from what was declared, which counts as a few observations, and forgets slowly.

Corrections are ratios of sums, observed over predicted, with weights that halve every 22 observations; an
observation counts as at most `MOST_RATIO` times its prediction either way, and so does the correction: one hung request
must not empty an engine, nor one lie fill it.
"""

from __future__ import annotations

from collections.abc import Mapping

KEPT = 1.0 - 1.0 / 32.0
"""A weight halves in 22 observations: 0.96875 ** 22 = 0.5."""
PRIOR_OBSERVATIONS = 4.0
MOST_RATIO = 4.0
LEAST_RATIO = 1.0 / MOST_RATIO
PRIOR_REQUESTS = 16
"""As in a replay: how many finished requests a workload's declared mean output weighs as much as."""
MOST_REQUESTS = 4096
"""Finished requests remembered per workload; then both sums are halved, so that habits may change."""
LONGEST_ANSWER = 1 << 20
"""Tokens an engine is believed to have answered with."""
TOKENS_PER_BYTE = 0.25
PRIOR_BYTES = 16_384.0
MOST_BYTES = 4_194_304.0
FEWEST_PER_BYTE, MOST_PER_BYTE = 0.02, 1.0


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


class Correction:
    """How far one engine's predictions of one quantity were off, as the factor that would have set them right."""

    __slots__ = ("_observed", "_predicted")

    def __init__(self) -> None:
        self._observed = self._predicted = 0.0

    def learn(self, predicted: float, observed: float) -> float:
        """Take in one observation in the prediction's unit; returns the new factor."""
        if predicted <= 0.0 or observed <= 0.0:
            return self.factor(predicted)
        # Twice for every request: comparisons here and in `factor` cost a third of what calls of min and max do.
        least, most = predicted / MOST_RATIO, predicted * MOST_RATIO
        self._observed = KEPT * self._observed + (least if observed < least else most if observed > most else observed)
        self._predicted = KEPT * self._predicted + predicted
        return self.factor(predicted)

    def factor(self, usual: float) -> float:
        """Observed over predicted, as if `PRIOR_OBSERVATIONS` of the `usual` size had been right."""
        prior = PRIOR_OBSERVATIONS * (usual if usual > 1.0 else 1.0)
        ratio = (self._observed + prior) / (self._predicted + prior)
        return LEAST_RATIO if ratio < LEAST_RATIO else MOST_RATIO if ratio > MOST_RATIO else ratio
