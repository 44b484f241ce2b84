"""Caching: what the hits of a run with caches saved, in dollars and in milliseconds, by workload.

    saved $    what the same requests cost without caches, less what they cost with them: GPU and function time
               attributed to requests, egress and fallback (`usd.request_usd`). Shared out among workloads by what their
               hits cost without caches, so that with all workloads together nothing is left over
    saved ms   how much later the hits' last token came without caches, on the mean

Both come from the same replay made twice. A hit makes the batch that it is not in smaller, so those that stay in it
carry more of each step: prices per token times the hits' tokens would promise up to three times as much. Owned GPUs
cost the same whether busy or not; what is saved of them is time for other requests. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.clock import client_clock
from gridctl.accounts.rows import COMPLETED, Run, RunRows
from gridctl.accounts.usd import request_usd
from gridctl.units import NS_PER_MS

CACHE = "cache"


def savings(run: Run, without: RunRows) -> Mapping[str, tuple[float, float | None]]:
    """Dollars saved, and milliseconds a hit or None without hits that were answered without caches, too. `without` are
    the rows of the same requests without caches; their engines have the numbers that they have in the run."""
    plain = Run(run.info, without)
    before = request_usd(plain)
    total = float(before.sum()) - float(request_usd(run).sum())
    kinds = np.array([engine.kind == CACHE for engine in run.info.engines] + [False])
    hit = (run.rows.outcome == COMPLETED) & kinds[run.rows.engine]
    shares = _shares(run, before, hit)
    both = hit & (without.outcome == COMPLETED)
    later_ns = np.where(both, client_clock(plain).e2e_ns - client_clock(run).e2e_ns, 0)
    found: dict[str, tuple[float, float | None]] = {}
    for number, name in enumerate(run.info.workload_names):
        own = both & (run.rows.workload == number)
        found[name] = total * float(shares[number]), float(later_ns[own].mean()) / NS_PER_MS if own.any() else None
    return found


def _shares(run: Run, before: NDArray[np.float64], hit: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Each workload's share of what is saved, shape `(workloads,)`: by its hits' dollars without caches, by their
    number where they cost nothing; all zero without hits."""
    workloads = len(run.info.workload_names)
    weights = np.bincount(run.rows.workload[hit], before[hit], workloads)
    if not weights.any():
        weights = np.bincount(run.rows.workload[hit], minlength=workloads).astype(np.float64)
    return np.asarray(weights / max(float(weights.sum()), np.finfo(np.float64).tiny), np.float64)
