"""Distribution: how long the requests of each workload waited for their first token, in logarithmic buckets.

All workloads share the buckets, ten to a decade, so that their shapes compare. Decides nothing about what is good;
objectives are only carried along. Requests that were never answered are in no bucket: they are `requests − answered`.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from gridctl.accounts.clock import client_clock, nanoseconds
from gridctl.accounts.percentiles import percentiles
from gridctl.accounts.rows import Run
from gridctl.units import NS_PER_MS, ms

BUCKETS_PER_DECADE = 10
SHORTEST_MS, LONGEST_MS = 0.1, 1e8
WANTED = (50.0, 95.0, 99.0)


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """What a workload promises of its time to first token."""

    threshold_ms: float
    percentile: float


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """One workload's times to first token. `counts` has an entry per bucket."""

    workload: str
    requests: int
    answered: int
    counts: tuple[int, ...]
    p50_ms: float | None  # nearest rank, over answered requests
    p95_ms: float | None
    p99_ms: float | None
    limits: tuple[Limit, ...]


class Distributions(msgspec.Struct, frozen=True, kw_only=True):
    """Every workload's distribution over the same buckets: bucket i holds `edges_ms[i]` < time ≤ `edges_ms[i + 1]`."""

    edges_ms: tuple[float, ...]
    items: tuple[Distribution, ...]


def ttft_distributions(run: Run, edges_ms: tuple[float, ...] | None = None) -> Distributions:
    """The distributions, workloads by name; over given buckets, those of another run, or its own. O(n log n)."""
    clock = client_clock(run)
    edges = edges_ms or bucket_edges_ms(*_extremes_ms(clock.ttft_ns[clock.served]))
    inner = np.array([nanoseconds(edge) for edge in edges[1:-1]], dtype=np.int64)
    items = []
    for index, name in sorted(enumerate(run.info.workload_names), key=lambda pair: pair[1]):
        members = run.rows.workload == index
        times_ns = clock.ttft_ns[members & clock.served]
        if not members.any():
            continue
        spec = run.info.workloads.get(name)
        p50, p95, p99 = (None if value is None else ms(value) for value in percentiles(times_ns, WANTED))
        items.append(
            Distribution(
                workload=name,
                requests=int(members.sum()),
                answered=len(times_ns),
                counts=tuple(np.bincount(np.searchsorted(inner, times_ns), minlength=len(inner) + 1).tolist()),
                p50_ms=p50,
                p95_ms=p95,
                p99_ms=p99,
                limits=tuple(
                    Limit(threshold_ms=objective.threshold_ms, percentile=objective.percentile)
                    for objective in (spec.objectives if spec else ())
                    if objective.metric == "ttft_ms"
                ),
            )
        )
    return Distributions(edges_ms=edges, items=tuple(items))


def bucket_edges_ms(low_ms: float, high_ms: float) -> tuple[float, ...]:
    """Edges at 10^(k/10) ms from below `low_ms` to above `high_ms`, of at least one decade.

    >>> edges = bucket_edges_ms(3.2, 80.0)
    >>> edges[0], edges[-1], len(edges)
    (1.0, 100.0, 21)
    """
    first = math.floor(math.log10(min(max(low_ms, SHORTEST_MS), LONGEST_MS)) + 1e-9)
    last = max(math.ceil(math.log10(min(max(high_ms, SHORTEST_MS), LONGEST_MS)) - 1e-9), first + 1)
    steps = range(first * BUCKETS_PER_DECADE, last * BUCKETS_PER_DECADE + 1)
    return tuple(float(f"{10 ** (step / BUCKETS_PER_DECADE):.6g}") for step in steps)


def _extremes_ms(times_ns: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> tuple[float, float]:
    if not len(times_ns):
        return 1.0, 1000.0
    return int(times_ns.min()) / NS_PER_MS, int(times_ns.max()) / NS_PER_MS
