"""Caching: what the hits of a run with caches saved, in dollars and in milliseconds, by workload.

    saved $    hits × the mean of what the workload's completed requests cost that an engine answered
    saved ms   their mean end-to-end time, less that of the hits

Both are what the same requests would have cost on the grid as it ran: with every hit on engines as well queues would
have been longer, so the figures err low. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gridctl.accounts.clock import client_clock
from gridctl.accounts.rows import COMPLETED, Run
from gridctl.accounts.usd import request_usd
from gridctl.units import NS_PER_MS

CACHE = "cache"


def savings(run: Run) -> Mapping[str, tuple[float, float | None]]:
    """Dollars saved and milliseconds saved a hit, None without hits or without anything to compare with."""
    is_cache = np.array([engine.kind == CACHE for engine in run.info.engines] + [False])
    usd, clock = request_usd(run), client_clock(run)
    done = run.rows.outcome == COMPLETED
    hit = done & is_cache[run.rows.engine]
    found: dict[str, tuple[float, float | None]] = {}
    for number, name in enumerate(run.info.workload_names):
        own = run.rows.workload == number
        hits, others = np.flatnonzero(own & hit), np.flatnonzero(own & done & ~hit)
        if not len(hits) or not len(others):
            found[name] = 0.0, None
            continue
        saved = len(hits) * float(usd[others].mean()) - float(usd[hits].sum())
        later = float(clock.e2e_ns[others].mean()) - float(clock.e2e_ns[hits].mean())
        found[name] = saved, later / NS_PER_MS
    return found
