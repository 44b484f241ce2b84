"""Latency: how many times as long sites that serve a new version take to their first token, from times in cells.

Decides what may be said of the ratio of two quantiles Q₁ (canary) and Q₂ (control), each of its own n times. The ends
l and u of a quantile are the times of the ranks nq ∓ z·√(nq(1 − q)), whatever the times are distributed like (Conover
1999, "Practical Nonparametric Statistics", 3.2). The logarithm of the ratio is then at least

    ln Q₁ − ln Q₂ − √((ln Q₁ − ln l₁)² + (ln u₂ − ln Q₂)²)

Source: Zou and Donner 2008, "Construction of confidence limits about effect measures: a general approach", of which the
bound on a difference of two shares in `analysis` is a case; z = 1.645, one-sided 95 %. A time is known to a cell, 5 %
either way, so the bound is lowered by what two of them can be off. Invariant: a rank beyond the last time is no time;
with it nothing is certain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridctl.signals import buckets
from gridctl.units import NS_PER_MS

Z = 1.645
RESOLUTION = buckets.GROWTH**buckets.STEP
"""What the ratio of two times may be off because each is known to its cell only, as a factor."""


class Ends(NamedTuple):
    """A quantile in nanoseconds and the ends of its interval; `high` is infinite where there are too few times."""

    at: float
    low: float
    high: float


class Ratio(NamedTuple):
    """Two quantiles in milliseconds, how many times the first is the second, and how many times it is at least."""

    canary_ms: float
    control_ms: float
    times: float
    at_least: float


def ratio_of(canary: Sequence[int], control: Sequence[int], share: float) -> Ratio | None:
    """The quantiles of the two compared. Counts have shape (buckets.COARSE_CELLS,); None where one is of nothing."""
    here, there = ends_of(canary, share), ends_of(control, share)
    if here is None or there is None:
        return None
    times, at_least = here.at / there.at, 0.0
    if here.low > 0 and math.isfinite(there.high):
        spread = math.hypot(math.log(here.at / here.low), math.log(there.high / there.at))
        at_least = times * math.exp(-spread) / RESOLUTION
    return Ratio(here.at / NS_PER_MS, there.at / NS_PER_MS, times, at_least)


def ends_of(counts: Sequence[int], share: float, z: float = Z) -> Ends | None:
    """A quantile with its interval; None of no counts. What is over 600 s is taken for 600 s."""
    cells = np.asarray(counts, np.int64)
    total = int(cells.sum())
    if total == 0:
        return None
    middle, half = total * share, z * math.sqrt(total * share * (1 - share))
    low, high = math.floor(middle - half), math.ceil(middle + half)
    return Ends(
        _ranked(cells, math.ceil(middle), total),
        _ranked(cells, low, total) if low >= 1 else 0.0,
        _ranked(cells, high, total) if high <= total else math.inf,
    )


def _ranked(cells: NDArray[np.int64], rank: int, total: int) -> float:
    """The time of a rank. Half a rank less is the same rank, whichever way a division rounds."""
    found = buckets.coarse_quantile_ns(cells, (min(max(rank, 1), total) - 0.5) / total)
    return min(found or 0.0, float(buckets.HIGH_NS))
