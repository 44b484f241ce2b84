"""Redrawn arrivals: the same requests in the same order with the same load, at other moments.

A trace is one of the many that the same demand could have made. A redraw answers "what if the same requests had come a
little otherwise" by a local block bootstrap of the gaps between requests: the trace is cut into windows of about a
minute, and within each the gaps are drawn anew, with replacement, in blocks of as many as two seconds bring on average,
then stretched so that the window ends when it did. What is kept: every request and its order (so turns of a session and
reused prefixes stay in order), the load of every window, hence slower changes such as day and night, and how gaps
follow each other within a block, hence bursts. What is lost: how a gap goes with the length of its request, and what
binds gaps over more than a block, so that a burst longer than that is cut in pieces.

Source: Künsch 1989, blocks of dependent data; Politis & Romano 1992, blocks taken in a circle; Paparoditis & Politis
2002, drawn from the neighbourhood where the process changes over time; block length at least n^(1/3) of a window's n
gaps, Hall, Horowitz & Jing 1995.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gridctl.traces.randomness import words
from gridctl.traces.trace import Trace
from gridctl.units import NS_PER_S

WINDOW_NS = 60 * NS_PER_S
WINDOW_GAPS = 64
"""A window lasts at least so long and holds at least so many gaps: fewer could not be told from their own mean."""
BLOCKS = 30
"""Blocks a window is drawn in, unless that makes them shorter than n^(1/3) gaps."""


def redraw_arrivals(trace: Trace, seed: int) -> Trace:
    """The trace with its arrival times redrawn; the first, the last and each window's ends stay. O(n)."""
    arrival_ns = trace.arrival_ns
    if len(trace) < 3:
        return trace
    edges = _edges(arrival_ns)
    gaps = np.diff(arrival_ns)
    drawn = np.array(arrival_ns, np.int64)
    first_block = 0
    for left, right in pairwise(edges):
        own = gaps[left:right]
        picked, blocks = _resampled(own, seed, first_block)
        first_block += blocks
        # All-zero gaps cannot be stretched to the window: then its own stay.
        if picked[-1] > 0:
            span = int(arrival_ns[right] - arrival_ns[left])
            drawn[left + 1 : right + 1] = arrival_ns[left] + _stretched(picked, span)
    return replace(trace, arrival_ns=drawn)


def _edges(arrival_ns: NDArray[np.int64]) -> list[int]:
    """Numbers of the requests that windows begin and end with; what is left at the end joins the last window."""
    last = len(arrival_ns) - 1
    edges = [0]
    while True:
        late = int(np.searchsorted(arrival_ns, arrival_ns[edges[-1]] + WINDOW_NS))
        edge = max(late, edges[-1] + WINDOW_GAPS)
        if edge >= last:
            break
        edges.append(edge)
    if len(edges) > 1 and (last - edges[-1] < WINDOW_GAPS or arrival_ns[last] - arrival_ns[edges[-1]] < WINDOW_NS):
        edges.pop()
    return [*edges, last]


def _resampled(gaps: NDArray[np.int64], seed: int, first_block: int) -> tuple[NDArray[np.int64], int]:
    """Running sums of as many gaps, drawn in blocks whose numbers start at `first_block`; how many blocks there are."""
    count = len(gaps)
    length = max(int(np.ceil(np.cbrt(count))), -(-count // BLOCKS))
    blocks = -(-count // length)
    bits = words(seed, "arrivals", np.arange(first_block, first_block + blocks)) >> np.uint64(32)
    starts = (bits * np.uint64(count) >> np.uint64(32)).astype(np.int64)
    places = (starts[:, None] + np.arange(length)).reshape(-1)[:count] % count
    return np.cumsum(gaps[places]), blocks


def _stretched(sums: NDArray[np.int64], span: int) -> NDArray[np.int64]:
    """Running sums scaled so that the last is `span`. One division and one product, so the same on every machine."""
    scaled = np.floor(sums.astype(np.float64) * (span / int(sums[-1]))).astype(np.int64)
    scaled = np.minimum(scaled, span)
    scaled[-1] = span
    return scaled
