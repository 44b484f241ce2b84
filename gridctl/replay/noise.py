"""Random numbers that depend on seed, stream and request index alone: any chunking, order or machine gives the same.

SplitMix64 (Steele, Lea, Flood 2014) of the index, so nothing has to be carried from one request to the next.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
DRAW_BITS = 31


def draws(seed: int, stream: int, indices: NDArray[np.int64]) -> NDArray[np.uint64]:
    """64 uniform bits for each index, shape `(n,)`."""
    start = np.array([(seed * 0x9E3779B97F4A7C15 + stream * 0xD1B54A32D192ED03) & 0xFFFFFFFFFFFFFFFF], np.uint64)
    mixed = indices.astype(np.uint64) * GOLDEN + start
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def small_draws(seed: int, stream: int, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """31 uniform bits for each index, as the router's tie-breaks take them."""
    return (draws(seed, stream, indices) >> np.uint64(64 - DRAW_BITS)).astype(np.int64)


def interpolate(bits: NDArray[np.uint64], knots: NDArray[np.int64]) -> NDArray[np.int64]:
    """Inverse transform through a table of quantiles at 0, 1/m, … 1 (`m` a power of two), in integers."""
    segments = len(knots) - 1
    shift = segments.bit_length() - 1
    segment = (bits >> np.uint64(64 - shift)).astype(np.int64)
    within = ((bits << np.uint64(shift)) >> np.uint64(44)).astype(np.int64)
    low, high = knots[segment], knots[segment + 1]
    return low + ((high - low) * within >> 20)
