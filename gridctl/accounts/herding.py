"""Herding: how unevenly engines were in use over a time, and what it cost, for routers that see more or less.

In flight at an engine at a moment is every request between its arrival there and its last token. At evenly spread
moments: `spread` is the standard deviation of the GPU engines' requests in flight over their mean, averaged over the
moments at which anything was in flight, so that 0 is as even as can be; `busiest` is the most any engine ever had.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.clock import client_clock
from gridctl.accounts.goodness import judge
from gridctl.accounts.percentiles import percentiles
from gridctl.accounts.rows import COMPLETED, Run
from gridctl.accounts.usd import request_usd
from gridctl.units import ms

MOMENTS = 600


class Herd(msgspec.Struct, frozen=True, kw_only=True):
    """The requests that arrived in a time, under telemetry that was `fresh` or `stale`, decided by a router that counts
    what it has in flight (`own`) or does not (`none`)."""

    telemetry: str
    counters: str
    requests: int
    attainment: float | None  # good ÷ requests
    refused: int  # rejected or failed
    ttft_ms_p50: float | None
    ttft_ms_p99: float | None
    e2e_ms_p99: float | None
    spread: float
    busiest: int
    usd: float  # the requests' own


def herd(run: Run, span_ns: tuple[int, int], telemetry: str, counters: str) -> Herd:
    """What became of the requests that arrived in a span of time. O(n + engines · moments)."""
    rows = run.rows
    part = slice(*np.searchsorted(rows.arrival_ns, span_ns).tolist())
    clock = client_clock(run)
    served = rows.outcome[part] == COMPLETED
    good = judge(run, clock).good[part]
    ttft = percentiles(clock.ttft_ns[part][served], (50.0, 99.0))
    e2e = percentiles(clock.e2e_ns[part][served], (99.0,))
    spread, busiest = _unevenness(in_flight(run, span_ns))
    return Herd(
        telemetry=telemetry,
        counters=counters,
        requests=len(good),
        attainment=float(good.mean()) if len(good) else None,
        refused=int((~served).sum()),
        ttft_ms_p50=None if ttft[0] is None else ms(ttft[0]),
        ttft_ms_p99=None if ttft[1] is None else ms(ttft[1]),
        e2e_ms_p99=None if e2e[0] is None else ms(e2e[0]),
        spread=spread,
        busiest=busiest,
        usd=float(request_usd(run)[part].sum()),
    )


def in_flight(run: Run, span_ns: tuple[int, int], moments: int = MOMENTS) -> NDArray[np.int64]:
    """Requests in flight at each GPU engine at evenly spread moments of a span, shape `(engines, moments)`."""
    rows, engines = run.rows, run.info.engines
    at = np.linspace(span_ns[0], span_ns[1], moments, endpoint=False).astype(np.int64)
    there = np.flatnonzero((rows.outcome == COMPLETED) & (rows.engine >= 0))
    begin = rows.arrival_ns[there] + rows.rtt_ns[there] // 2
    end = begin + rows.queue_ns[there] + rows.compute_ns[there] + rows.decode_ns[there]
    steps = np.zeros((len(engines), moments + 1), np.int64)
    np.add.at(steps, (rows.engine[there], np.searchsorted(at, begin)), 1)
    np.subtract.at(steps, (rows.engine[there], np.searchsorted(at, end)), 1)
    counts: NDArray[np.int64] = np.cumsum(steps, axis=1)[:, :moments]
    return counts[[engine.kind == "gpu" for engine in engines]]


def _unevenness(counts: NDArray[np.int64]) -> tuple[float, int]:
    if not counts.size:
        return 0.0, 0
    mean = counts.mean(axis=0)
    busy = mean > 0
    spread = float((counts.std(axis=0)[busy] / mean[busy]).mean()) if busy.any() else 0.0
    return spread, int(counts.max())
