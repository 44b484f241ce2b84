"""The decision: candidates, request and policy in, one candidate out. The only place where a request is routed.

Hard constraints are not weighed here: a candidate that may not serve the request is not in the list, or its row says
it is not available. No clock, no I/O, no random state: draws, turns and sessions come in with the request.
Ties are broken by cost or load first, then round-trip time, then a value drawn for the request, never list order; but
among equally late candidates the nearest in the list serves: who is late anyway is late together, on one engine.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gridctl.kernels import Records, compiled, fused, inner
from gridctl.routing.price import is_hopeless, price_candidate
from gridctl.routing.rows import (
    BATCHING,
    CENTRALIZED,
    FALLBACK,
    FUNCTION,
    GRID,
    LEAST_LOADED,
    NEAREST,
    POWER_OF_TWO,
    PREFIX_AFFINITY,
    PUBLIC_API,
    ROUND_ROBIN,
    SESSION_STICKY,
)

NOBODY = -1
"""No candidate is available."""
REFUSED = -2
"""Every candidate is predicted to miss, and the workload prefers an early refusal."""


@inner
def _scatter(engine: int, draw: int) -> int:
    """A value per (engine, draw) in which neighbouring engines do not follow each other; 52-bit arithmetic only."""
    mixed = ((engine * 0x9E3779B1) ^ (draw * 0x85EBCA6B)) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 15)) * 0xFFFF1) & 0xFFFFFFFFFFF
    return (mixed >> 12) & 0xFFFFFFFF


@inner
def _is_eligible(row: np.record, needs_core: bool) -> bool:
    """Whether a baseline considers the row: the routers they stand for know GPU engines only."""
    return row.is_available == 1 and row.kind == BATCHING and (row.is_core == 1 or not needs_core)


@inner
def _eligible_count(rows: Records, count: int, needs_core: bool) -> int:
    eligible = 0
    for index in range(count):
        if _is_eligible(rows[index], needs_core):
            eligible += 1
    return eligible


@inner
def _nth_eligible(rows: Records, count: int, nth: int, needs_core: bool) -> int:
    seen = 0
    for index in range(count):
        if _is_eligible(rows[index], needs_core):
            if seen == nth:
                return index
            seen += 1
    return NOBODY


@fused
def _nearest(rows: Records, count: int, draw: int) -> int:
    """The smallest round trip; among engines of one site the least loaded."""
    best = NOBODY
    for index in range(count):
        row = rows[index]
        if not _is_eligible(row, False):
            continue
        if best == NOBODY or row.rtt_us < rows[best].rtt_us:
            best = index
        elif row.rtt_us == rows[best].rtt_us:
            if row.in_flight < rows[best].in_flight:
                best = index
            elif row.in_flight == rows[best].in_flight and _scatter(row.engine, draw) < _scatter(
                rows[best].engine, draw
            ):
                best = index
    return best


@inner
def _least_loaded(rows: Records, count: int, draw: int, needs_core: bool) -> int:
    """The fewest requests in flight, then the nearest."""
    best = NOBODY
    for index in range(count):
        row = rows[index]
        if not _is_eligible(row, needs_core):
            continue
        if best == NOBODY or row.in_flight < rows[best].in_flight:
            best = index
        elif row.in_flight == rows[best].in_flight:
            if row.rtt_us < rows[best].rtt_us:
                best = index
            elif row.rtt_us == rows[best].rtt_us and _scatter(row.engine, draw) < _scatter(rows[best].engine, draw):
                best = index
    return best


@fused
def _power_of_two(rows: Records, count: int, draw: int) -> int:
    """The less loaded of two drawn at random (Mitzenmacher 2001)."""
    eligible = _eligible_count(rows, count, False)
    if eligible == 0:
        return NOBODY
    first = _nth_eligible(rows, count, draw % eligible, False)
    if eligible == 1:
        return first
    # A second, different one: a step of 1 … eligible − 1 around the circle.
    step = 1 + (draw // eligible) % (eligible - 1)
    second = _nth_eligible(rows, count, (draw % eligible + step) % eligible, False)
    return second if rows[second].in_flight < rows[first].in_flight else first


@fused
def _prefix_affinity(rows: Records, count: int, draw: int, policy: np.record) -> int:
    """The longest cached prefix when it covers enough of the prompt and load is balanced; else the least loaded.
    The rule, with its two thresholds, is the one SGLang's gateway documents as cache-aware routing."""
    low, high, best = np.int64(1 << 60), np.int64(-1), NOBODY
    for index in range(count):
        row = rows[index]
        if not _is_eligible(row, False):
            continue
        low, high = min(low, row.in_flight), max(high, row.in_flight)
        if best == NOBODY or row.cached_tokens > rows[best].cached_tokens:
            best = index
        elif row.cached_tokens == rows[best].cached_tokens and row.in_flight < rows[best].in_flight:
            best = index
    if best == NOBODY:
        return NOBODY
    imbalanced = high - low > policy.imbalance_requests and high > policy.imbalance_ratio * low
    row = rows[best]
    if imbalanced or row.cached_tokens <= policy.prefix_min_share * row.prompt_tokens:
        return _least_loaded(rows, count, draw, False)
    return best


@fused
def _session_sticky(rows: Records, count: int, session: int) -> int:
    """Rendezvous hashing of the session over the engines (Thaler, Ravishankar 1998)."""
    best = NOBODY
    highest: Any = np.int64(-1)
    for index in range(count):
        if _is_eligible(rows[index], False):
            weight = _scatter(rows[index].engine, session)
            if weight > highest:
                best, highest = index, weight
    return best


@fused
def _grid(rows: Records, count: int, request: np.record, policy: np.record) -> int:
    """The cheapest in dollars of those predicted to meet every objective; when none does, as the workload says: the
    public API, an early refusal, or the candidate that is least late."""
    best, least_late, public = NOBODY, NOBODY, NOBODY
    for index in range(count):
        row = rows[index]
        if row.is_available == 0 or (row.kind == FUNCTION and policy.allow_serverless == 0):
            continue
        if row.kind == PUBLIC_API and policy.allow_fallback == 0:
            continue
        if row.is_priced == 0:
            price_candidate(row, request, policy)
        if row.kind == PUBLIC_API:
            public = index
        if row.worst_ratio <= 1.0 and (best == NOBODY or _is_cheaper(row, rows[best], request.draw)):
            best = index
        if row.kind != PUBLIC_API and (least_late == NOBODY or row.worst_ratio < rows[least_late].worst_ratio):
            least_late = index
    if best != NOBODY:
        return best
    if public != NOBODY and (least_late == NOBODY or request.when_infeasible == FALLBACK):
        return public
    if least_late != NOBODY and is_hopeless(rows[least_late], request, policy):
        return REFUSED
    return least_late


@fused
def _is_cheaper(row: np.record, best: np.record, draw: int) -> bool:
    if row.usd != best.usd:
        return row.usd < best.usd
    if row.rtt_us != best.rtt_us:
        return row.rtt_us < best.rtt_us
    return _scatter(row.engine, draw) < _scatter(best.engine, draw)


@compiled
def route(rows: Records, count: int, request: np.record, policy: np.record) -> int:
    """The index of the chosen candidate among the first `count` rows, NOBODY or REFUSED. O(count)."""
    algorithm, draw = policy.algorithm, request.draw
    choice = NOBODY
    if algorithm == GRID:
        return _grid(rows, count, request, policy)
    if algorithm == NEAREST:
        choice = _nearest(rows, count, draw)
    elif algorithm == CENTRALIZED:
        choice = _least_loaded(rows, count, draw, True)
    elif algorithm == ROUND_ROBIN:
        eligible = _eligible_count(rows, count, False)
        if eligible > 0:
            choice = _nth_eligible(rows, count, request.turn % eligible, False)
    elif algorithm == LEAST_LOADED:
        choice = _least_loaded(rows, count, draw, False)
    elif algorithm == POWER_OF_TWO:
        choice = _power_of_two(rows, count, draw)
    elif algorithm == PREFIX_AFFINITY:
        choice = _prefix_affinity(rows, count, draw, policy)
    elif algorithm == SESSION_STICKY:
        choice = _session_sticky(rows, count, request.session)
    return choice
