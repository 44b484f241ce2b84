"""Speed of a rollout's waves in a replay: TTFT at a wave's sites beside the same sites in the run without the rollout.

Decides whether a live wave as slow would pass, by the same intervals (`rollout.latency`). The control differs: live, it
is other sites at the same time; here, the very sites had the rollout not been.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.clock import client_clock
from gridctl.accounts.rows import COMPLETED, Run
from gridctl.rollout.analysis import TTFTS, Word
from gridctl.rollout.latency import ratio_of
from gridctl.signals import buckets

LEAST = 100
"""Requests at the wave's sites, in either run, that a word is said of; as `--min-samples` live."""


class Speed(NamedTuple):
    """How many times the calm run's p95 a wave's TTFT is, and what a live wave would come to."""

    times: float
    word: Word


def speed_of(run: Run, calm: Run, sites: Collection[str], part: slice, most: float) -> Speed | None:
    """The wave's sites over the rows of a phase; None where nobody was served there."""
    here, there = _cells(run, sites, part), _cells(calm, sites, part)
    found = [ratio_of(here, there, share) for _, share in TTFTS]
    last = found[-1]
    if last is None:
        return None
    known = [one for one in found if one is not None]
    word: Word = "pass"
    if min(sum(here), sum(there)) < LEAST:
        word = "inconclusive"
    elif any(one.at_least > most for one in known):
        word = "fail"
    elif any(one.times > most for one in known):
        word = "inconclusive"
    return Speed(last.times, word)


def _cells(run: Run, sites: Collection[str], part: slice) -> list[int]:
    """TTFTs of completed requests that these sites served, in cells of `buckets`."""
    rows = run.rows
    is_there = np.array([engine.site in sites for engine in run.info.engines] + [False], np.bool_)  # −1: no engine
    served = is_there[rows.engine[part]] & (rows.outcome[part] == COMPLETED)
    ttft: NDArray[np.int64] = client_clock(run).ttft_ns[part][served]
    cells = np.searchsorted(np.array(buckets.EDGES, np.int64), ttft)
    coarse = np.where(cells >= buckets.OVER, buckets.COARSE_OVER, (cells + buckets.STEP - 1) // buckets.STEP)
    counts: list[int] = np.bincount(coarse, minlength=buckets.COARSE_CELLS).tolist()
    return counts
