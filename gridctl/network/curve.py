"""Curve: round-trip time against distance for one pair of areas: straight lines between knots that never fall.

The curve starts at `SAME_METRO_MS` at no distance; at the knots it takes what the fitted lines say there, or the value
before it where they would fall; beyond the last knot it goes on with the fitted slope. What an area pair deviates and
what a country adds grow in over the first `REACH_KM`, so that neighbours stay near whatever their backbone is like.
Nothing is faster than light in fibre. Between 0 and 100 km the start is an assumption, not a measurement.

The same arithmetic, in the same order, serves one pair (floats) and many (arrays): equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SAME_METRO_MS = 0.3
FIBRE_MS_PER_KM = 0.01  # there and back at 2/3 of c, a little over light in fibre (0.0098)
REACH_KM = 1000.0
KNOTS_KM = (0.0, 100.0, 500.0, 1000.0, 2000.0)
_SEGMENTS_KM = (0.0, 100.0, 500.0, 2000.0)  # where the fitted lines within a region bend


class Curve(NamedTuple):
    """Milliseconds at the knots before countries, and beyond the last knot per km."""

    knots_ms: tuple[float, ...]
    slope_ms_per_km: float


def curve_of(line: Sequence[float], deviation: Sequence[float]) -> Curve:
    """The curve of a fitted line, (intercept, slope) or (intercept, four slopes), and an area pair's deviation,
    (reach, slope); slopes in ms per 1,000 km."""
    intercept, *slopes = line
    if len(slopes) == 1:
        slopes = slopes * len(_SEGMENTS_KM)
    reach_ms, extra = deviation
    knots = []
    for km in KNOTS_KM:
        at = intercept + reach_ms * _reach(km) + extra * km / 1000
        for low, high, slope in zip(_SEGMENTS_KM, (*_SEGMENTS_KM[1:], float("inf")), slopes, strict=True):
            at += slope * min(max(km - low, 0.0), high - low) / 1000
        knots.append(at)
    return Curve(tuple(knots), max(0.0, slopes[-1] + extra) / 1000)


def evaluate_one(curve: Curve, km: float, share_ms: float) -> float:
    """Milliseconds at `km`, with `share_ms` added by the two countries."""
    before = SAME_METRO_MS
    total = before
    for (low, high), fitted in zip(pairwise(KNOTS_KM), curve.knots_ms[1:], strict=True):
        at = max(before, fitted + share_ms * _reach(high))
        total = total + (at - before) * min(max((km - low) / (high - low), 0.0), 1.0)
        before = at
    total = total + curve.slope_ms_per_km * max(km - KNOTS_KM[-1], 0.0)
    return max(total, FIBRE_MS_PER_KM * km)


def evaluate(curve: Curve, km: NDArray[np.float64], share_ms: NDArray[np.float64]) -> NDArray[np.float64]:
    """`evaluate_one` of every entry; shapes (n,)."""
    import numpy as np

    knots = np.tile(np.array(curve.knots_ms), (len(km), 1))
    return evaluate_each(knots, np.full(len(km), curve.slope_ms_per_km), km, share_ms)


def evaluate_each(
    knots_ms: NDArray[np.float64],
    slope_ms_per_km: NDArray[np.float64],
    km: NDArray[np.float64],
    share_ms: NDArray[np.float64],
) -> NDArray[np.float64]:
    """`evaluate_one` with a curve of its own for every entry; shapes (n, knots) and (n,)."""
    import numpy as np

    before: NDArray[np.float64] = np.full(len(km), SAME_METRO_MS)
    total = before
    for index, (low, high) in enumerate(pairwise(KNOTS_KM), start=1):
        at = np.maximum(before, knots_ms[:, index] + share_ms * _reach(high))
        total = total + (at - before) * np.minimum(np.maximum((km - low) / (high - low), 0.0), 1.0)
        before = at
    total = total + slope_ms_per_km * np.maximum(km - KNOTS_KM[-1], 0.0)
    return np.maximum(total, FIBRE_MS_PER_KM * km)


def _reach(km: float) -> float:
    return min(km, REACH_KM) / REACH_KM
