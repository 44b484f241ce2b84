"""Resampling: how far a number, or the difference of two runs of one trace, would move by chance.

Requests that share queues are not independent, so what is resampled is not requests but blocks: the trace is cut into
`BLOCKS` stretches of consecutive requests, and each of `RESAMPLES` resamples draws as many stretches with replacement.
Both runs of a pair are resampled alike: what the requests themselves contribute cancels, and what is left is the
difference the runs make (common random numbers). The interval is that of the resamples' percentiles.

Sound as long as what happens in one stretch says little about the next; a run shorter than its own congestion is
beyond it. Random numbers are fixed: the same runs give the same interval, byte for byte.

Source: block bootstrap, Künsch, Annals of Statistics 17 (1989); percentile interval, Efron & Tibshirani, An
Introduction to the Bootstrap, chapter 13.
"""

from __future__ import annotations

import random
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.columns import Quantile, Sums
from gridctl.units import NS_PER_MS

BLOCKS = 30
RESAMPLES = 999
LEAST_REQUESTS = 10 * BLOCKS
"""Fewer requests make blocks of less than ten: too few to say anything."""
CANDIDATES = 512
"""Values a resampled percentile may take beside those near it; more than that of distinct values are thinned out."""
_SEED = 20_240_917
_NEAR = 0.05

Floats = NDArray[np.float64]


class Bounds(NamedTuple):
    """Between which values a resampled number lies, two-sided at 95 %, and one-sided (`least`, `most`) at 95 % each."""

    low: float
    high: float
    least: float
    most: float


def blocks_of(requests: int) -> NDArray[np.int64]:
    """The block of each request of a run, in order of arrival, shape `(n,)`."""
    return np.arange(requests, dtype=np.int64) * BLOCKS // max(requests, 1)


def resampled(column: Sums | Quantile, members: NDArray[np.intp], blocks: NDArray[np.int64]) -> Floats:
    """The number over each resample of the requests `members`, shape `(RESAMPLES,)`; NaN where there is none."""
    if isinstance(column, Quantile):
        chosen = members[column.applies[members]]
        return _percentiles(column.values[chosen], blocks[chosen], column.percentile)
    above = _sums(column.numerator[members], blocks[members])
    if column.denominator is None:
        return above / column.per
    below = _sums(column.denominator[members], blocks[members])
    ratio: Floats = np.divide(above, below, out=np.full(RESAMPLES, np.nan), where=below != 0)
    return ratio


def bounds(values: Floats) -> Bounds | None:
    """The interval of resampled values; None when more than one in twenty has none."""
    known = np.sort(values[~np.isnan(values)])
    n = len(known)
    if n < 0.95 * RESAMPLES:
        return None

    def at(share: float) -> float:
        return float(known[min(n - 1, max(0, round(share * (n + 1)) - 1))])

    return Bounds(low=at(0.025), high=at(0.975), least=at(0.05), most=at(0.95))


@lru_cache(maxsize=1)
def _draws() -> Floats:
    """How often each resample holds each block, shape `(RESAMPLES, BLOCKS)`."""
    source = random.Random(_SEED)
    counts = np.zeros((RESAMPLES, BLOCKS))
    for row in counts:
        for _ in range(BLOCKS):
            row[int(source.random() * BLOCKS)] += 1
    return counts


def _sums(values: Floats, blocks: NDArray[np.int64]) -> Floats:
    """Sums over each resample, added block by block: the same on every machine."""
    per_block = np.bincount(blocks, weights=values, minlength=BLOCKS)
    total = np.zeros(RESAMPLES)
    for block, amount in enumerate(per_block):
        total += _draws()[:, block] * amount
    return total


def _percentiles(values: NDArray[np.int64], blocks: NDArray[np.int64], percentile: float) -> Floats:
    """Nearest-rank percentiles of each resample, in milliseconds.

    Of more values than `CANDIDATES` in all and near the percentile, a resample's percentile is found among a thinned
    out selection: at most a 1/5,000th of the values lies between two that are near."""
    if not len(values):
        return np.full(RESAMPLES, np.nan)
    ordered = np.sort(values)
    candidates = ordered[_ranks(len(ordered), percentile / 100)]
    counts = np.zeros((BLOCKS, len(candidates)))
    for block in range(BLOCKS):
        counts[block] = np.searchsorted(np.sort(values[blocks == block]), candidates, side="right")
    below = _draws() @ counts  # whole numbers, so exact in whatever order they are added
    wanted = np.ceil(percentile / 100 * below[:, -1] - 1e-9)
    found = np.minimum((below < wanted[:, None]).sum(axis=1), len(candidates) - 1)
    return np.where(below[:, -1] > 0, candidates[found] / NS_PER_MS, np.nan)


def _ranks(n: int, share: float) -> NDArray[np.intp]:
    """Which of `n` sorted values a percentile is looked for among: evenly spread ones, those near it, the largest."""
    spread = np.linspace(0, n - 1, CANDIDATES)
    near = np.linspace((share - _NEAR) * (n - 1), (share + _NEAR) * (n - 1), CANDIDATES)
    ranks = np.clip(np.rint(np.concatenate([spread, near])), 0, n - 1).astype(np.intp)
    return np.unique(ranks)
