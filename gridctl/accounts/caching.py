"""Caching: what the hits of a run with caches saved, in dollars and in milliseconds, by workload.

    saved $    what the hits' own tokens would have cost at the prices per token of the workload's completed requests
               that an engine answered, less what the hits cost
    saved ms   the mean end-to-end time of those, less that of the hits

The two prices (input, output) are fitted to those requests by least squares, neither below zero, and scaled so that
the requests they were fitted to cost what they did. Both figures are what the same requests would have cost on the grid
as it ran: with every hit on engines as well queues would have been longer, so they err low. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.clock import client_clock
from gridctl.accounts.rows import COMPLETED, Run
from gridctl.accounts.usd import request_usd
from gridctl.units import NS_PER_MS

CACHE = "cache"
Floats = NDArray[np.float64]


def savings(run: Run) -> Mapping[str, tuple[float, float | None]]:
    """Dollars saved and milliseconds saved a hit, None without hits or without anything to compare with."""
    is_cache = np.array([engine.kind == CACHE for engine in run.info.engines] + [False])
    usd, clock = request_usd(run), client_clock(run)
    tokens = np.stack([run.rows.input_tokens, run.rows.output_tokens], axis=1).astype(np.float64)
    done = run.rows.outcome == COMPLETED
    hit = done & is_cache[run.rows.engine]
    found: dict[str, tuple[float, float | None]] = {}
    for number, name in enumerate(run.info.workload_names):
        own = run.rows.workload == number
        hits, others = np.flatnonzero(own & hit), np.flatnonzero(own & done & ~hit)
        if not len(hits) or not len(others):
            found[name] = 0.0, None
            continue
        would = expected_usd(tokens[others], usd[others], tokens[hits])
        later = float(clock.e2e_ns[others].mean()) - float(clock.e2e_ns[hits].mean())
        found[name] = would - float(usd[hits].sum()), later / NS_PER_MS
    return found


def expected_usd(tokens: Floats, usd: Floats, wanted: Floats) -> float:
    """What requests with `wanted` tokens cost together at the prices of those with `tokens`; tokens of shape (n, 2),
    input and output."""
    told = np.maximum(_prices(tokens, usd), 0.0)
    fitted = float((tokens @ told).sum())
    if fitted <= 0.0:
        return float(usd.mean()) * len(wanted)
    return float((wanted @ told).sum()) * float(usd.sum()) / fitted


def _prices(tokens: Floats, usd: Floats) -> Floats:
    """Dollars per input and output token with the least squared error; where one would be below zero, or cannot be told
    from the other, the other's alone that fits better."""
    prices, _, rank, _ = np.linalg.lstsq(tokens, usd, rcond=None)
    if rank == 2 and (prices >= 0.0).all():
        return np.asarray(prices, np.float64)
    found = np.zeros(2)
    squares, common = (tokens * tokens).sum(0), tokens.T @ usd
    gains = np.divide(common * common, squares, out=np.zeros(2), where=squares > 0.0)
    best = int(np.argmax(gains))
    if squares[best] > 0.0:
        found[best] = common[best] / squares[best]
    return found
