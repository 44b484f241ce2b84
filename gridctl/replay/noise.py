"""Noise of a replay: drawn from seed, stream and request index alone, so chunking and order change nothing."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gridctl.traces.randomness import words

DRAW_BITS = 31


def small_draws(seed: int, stream: str, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """31 uniform bits for each index, as the router's tie-breaks take them."""
    return (words(seed, stream, indices) >> np.uint64(64 - DRAW_BITS)).astype(np.int64)


def from_quantiles(seed: int, stream: str, indices: NDArray[np.int64], knots: NDArray[np.int64]) -> NDArray[np.int64]:
    """A draw from the distribution whose quantiles at 0, 1/m, … 1 are `knots` (m a power of two), in integers."""
    bits = words(seed, stream, indices)
    segments = len(knots) - 1
    shift = segments.bit_length() - 1
    segment = (bits >> np.uint64(64 - shift)).astype(np.int64)
    within = ((bits << np.uint64(shift)) >> np.uint64(44)).astype(np.int64)
    low, high = knots[segment], knots[segment + 1]
    return low + ((high - low) * within >> 20)
