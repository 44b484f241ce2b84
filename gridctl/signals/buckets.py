"""Buckets: durations counted in classes whose bounds grow by 2 %, so that every quantile is known to 1 %.

Cell i ≥ 1 holds (EDGES[i−1], EDGES[i]] with EDGES[i] = LOW·γ^i and γ = (1 + α)/(1 − α), α = 1 %; cell 0 all up to
LOW = 0.01 ms, the last everything over 600 s. Naming a cell by 2·LOW·γ^i/(γ + 1) errs by at most α (Masson, Rim, Lee,
DDSketch, VLDB 2019). Counts of two histograms add, in any order, to the histogram of both. An objective's threshold
falls inside a cell: who counts apart what of that cell is at or under it knows how many met it exactly.
"""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray

from gridctl.units import NS_PER_MS, NS_PER_S

ACCURACY = 0.01
GROWTH = (1 + ACCURACY) / (1 - ACCURACY)
LOW_NS = NS_PER_MS // 100
HIGH_NS = 600 * NS_PER_S
EDGES = tuple(
    math.floor(LOW_NS * GROWTH**cell) for cell in range(math.ceil(math.log(HIGH_NS / LOW_NS) / math.log(GROWTH)) + 1)
)
"""Upper bounds, inclusive, in whole nanoseconds as the durations are."""
OVER = len(EDGES)
"""The cell of what is over every bound."""
CELLS = OVER + 1
STEP = 5
"""Cells that make a coarse one, where a histogram is kept for each of many things: its quantiles are known to 5 %."""
COARSE_OVER = -(-(OVER - 1) // STEP) + 1
COARSE_CELLS = COARSE_OVER + 1


def cell_of(ns: int) -> int:
    """The cell that a duration falls in."""
    return bisect_left(EDGES, ns)


def quantile_ns(counts: NDArray[np.int64], share: float) -> float | None:
    """The duration of nearest rank ⌈share·n⌉, to 1 %; None of no counts, infinite when it is over 600 s.

    `counts` has shape (CELLS,); `share` lies in (0, 1].
    """
    cumulative = np.cumsum(counts)
    total = int(cumulative[-1])
    if total == 0:
        return None
    cell = int(np.searchsorted(cumulative, max(1, math.ceil(share * total))))
    if cell == OVER:
        return math.inf
    return float(LOW_NS) if cell == 0 else 2 * LOW_NS * GROWTH**cell / (GROWTH + 1)


def coarse_quantile_ns(counts: NDArray[np.int64], share: float) -> float | None:
    """As `quantile_ns`, of `counts` of shape (COARSE_CELLS,), to 5 %: coarse cell i holds what is over the bound of
    cell STEP·(i − 1) and not over that of cell STEP·i."""
    cumulative = np.cumsum(counts)
    total = int(cumulative[-1])
    if total == 0:
        return None
    coarse = int(np.searchsorted(cumulative, max(1, math.ceil(share * total))))
    if coarse == COARSE_OVER:
        return math.inf
    return float(LOW_NS) if coarse == 0 else 2 * LOW_NS * GROWTH ** (STEP * coarse) / (GROWTH**STEP + 1)


def at_most(counts: NDArray[np.int64], ns: int) -> int:
    """How many were certainly at or under `ns`: those of the cells that end there or before."""
    cell = cell_of(ns)
    return int(counts[: cell + 1].sum() if cell < OVER and EDGES[cell] <= ns else counts[:cell].sum())
