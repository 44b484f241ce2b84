"""Crowd: more requests from some origins for a time, made from those that come anyway.

A crowd of N sends N times as many requests: each request of the time, N − 1 copies of it, the last of them for the
fraction of requests that a hash of the request's number draws. A copy has its request's lengths, workload, tenant and
model, arrives between its request and the next one from the same origin, at a hashed moment, and belongs to no session.
Blocks of the first copies are shared among them as they are among their requests, and with nobody else, and so with the
second ones: a crowd invents no reuse between itself and the others. Copies come from an origin of their own, named
after the first one, so every table can tell them apart. Invariant: the requests there were are there, unchanged and in
order; the same trace gives the same crowd.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil

import numpy as np
from numpy.typing import NDArray

from gridctl.traces.randomness import uniforms
from gridctl.traces.slicing import merge, take
from gridctl.traces.trace import UNSAID, Trace

CROWD = " (crowd)"
_COPIES = 1 << 40
"""Keeps the draws of copies apart."""


def known_origin(name: str) -> str:
    """The origin a crowd is named after; any other origin is its own.

    >>> known_origin("Paris (crowd)"), known_origin("Paris")
    ('Paris', 'Paris')
    """
    return name.removesuffix(CROWD)


def is_crowd(name: str) -> bool:
    """Whether an origin is that of a crowd."""
    return name.endswith(CROWD)


def crowded(trace: Trace, origins: Sequence[int], at_ns: int, until_ns: int, times: float) -> Trace:
    """The trace with a crowd of `times` at these origins, from `at_ns` until `until_ns`. O(n log n + copies)."""
    is_there = np.isin(trace.origin, np.asarray(origins)) & (trace.arrival_ns >= at_ns) & (trace.arrival_ns < until_ns)
    rows = np.flatnonzero(is_there).astype(np.int64)
    if not len(rows):
        return trace
    gaps = _gaps(trace, rows, until_ns)
    copies = []
    for number in range(1, ceil(times)):
        share = min(1.0, times - number)
        keys = rows + number * _COPIES
        some = np.flatnonzero(uniforms(0, "crowd/share", keys) < share)
        copies.append(_copy(trace, rows[some], np.floor(uniforms(0, "crowd/time", keys[some]) * gaps[some])))
    whole = merge([trace, *copies], name=trace.name)
    # Merging begins at 0; the trace's own first request is still the first, so its time is everybody's.
    return replace(whole, arrival_ns=whole.arrival_ns + trace.arrival_ns[0])


def _gaps(trace: Trace, rows: NDArray[np.int64], until_ns: int) -> NDArray[np.int64]:
    """How long each of the rows, in order of arrival, is the last from its origin; never beyond the crowd's end."""
    origin, arrival_ns = trace.origin[rows], trace.arrival_ns[rows]
    order = np.argsort(origin, kind="stable")
    following = np.full(len(rows), until_ns, np.int64)
    same = origin[order[:-1]] == origin[order[1:]]
    following[order[:-1][same]] = arrival_ns[order[1:][same]]
    gaps: NDArray[np.int64] = following - arrival_ns
    return gaps


def _copy(trace: Trace, rows: NDArray[np.int64], later_ns: NDArray[np.float64]) -> Trace:
    """Copies of some requests, later, from the crowds of their origins."""
    arrival_ns = trace.arrival_ns[rows] + later_ns.astype(np.int64)
    order = np.argsort(arrival_ns, kind="stable")
    some = take(trace, rows[order])
    used = np.unique(some.origin)
    place = np.zeros(len(trace.origins), np.int32)
    place[used] = np.arange(len(used))
    return replace(
        some,
        arrival_ns=arrival_ns[order],
        origin=place[some.origin],
        origins=tuple(f"{known_origin(trace.origins[number])}{CROWD}" for number in used.tolist()),
        session=np.full(len(some), UNSAID, np.int64),
    )
