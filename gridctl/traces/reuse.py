"""Reuse: what share of prompt tokens a cache that never forgets would find already computed.

Of request i, the first k prefix blocks were seen in an earlier request; it reuses min(k · block_tokens, input tokens)
of its prompt, and the share is Σ reused / Σ input over the trace. An id names a block and everything before it, so
"seen before" is a question about single ids. Requests of the same instant count in trace order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gridctl.traces.trace import Trace

Ints = NDArray[np.int64]

_SPARSE = 8  # ids up to this many times their number index an array directly
_CANDIDATES = 4


@dataclass(frozen=True, slots=True)
class PrefixReuse:
    """`reused_tokens` per request, and the blocks: how many ids, how many distinct, the most shared of them."""

    reused_tokens: Ints
    blocks: int
    unique_blocks: int
    top_blocks: tuple[tuple[int, int], ...]
    """(block id, requests that hold it), most shared first; ids held by one request only are not listed."""


def prefix_reuse(trace: Trace, top: int = 10) -> PrefixReuse:
    """Measure the reuse of prefix blocks; O(b) for b block ids that are nearly dense, else O(b log b)."""
    offsets, requests = trace.block_offsets, len(trace)
    total = len(trace.block_ids)
    if not total:
        return PrefixReuse(np.zeros(requests, np.int64), 0, 0, ())
    number, known_ids = _dense(trace.block_ids)
    owner = np.repeat(np.arange(requests), np.diff(offsets))
    first_owner = np.full(int(number.max()) + 1, requests)
    first_owner[number[::-1]] = owner[::-1]  # the last write is the earliest request
    # the first new block at or after each request's start, or the request's end when all its blocks are known
    new_places = np.append(np.flatnonzero(first_owner[number] == owner), total)
    first_new = new_places[np.searchsorted(new_places, offsets[:-1])]
    known = np.minimum(first_new, offsets[1:]) - offsets[:-1]
    reused = np.minimum(known * trace.block_tokens, trace.input_tokens)
    unique = int(np.count_nonzero(first_owner < requests))
    return PrefixReuse(reused, total, unique, _most_shared(number, known_ids, owner, top))


def _dense(ids: Ints) -> tuple[Ints, Ints | None]:
    """The ids as numbers small enough to index an array, and the ids those stand for (None: themselves)."""
    if int(ids.max()) <= _SPARSE * len(ids) and int(ids.min()) >= 0:
        return ids, None
    known_ids, number = np.unique(ids, return_inverse=True)
    return number.astype(np.int64), known_ids


def _most_shared(number: Ints, known_ids: Ints | None, owner: Ints, top: int) -> tuple[tuple[int, int], ...]:
    uses = np.bincount(number)
    wanted = min(_CANDIDATES * top, len(uses))
    least = max(2, int(np.partition(uses, len(uses) - wanted)[len(uses) - wanted]))
    candidates = np.concatenate([np.flatnonzero(uses > least), np.flatnonzero(uses == least)])[:wanted]
    places = np.flatnonzero(np.isin(number, candidates))
    # an id repeated inside one prompt is held by that request once
    pairs = np.unique(np.stack([number[places], owner[places]]), axis=1)
    held, holders = np.unique(pairs[0], return_counts=True)
    names = held if known_ids is None else known_ids[held]
    ranked = sorted(zip(names.tolist(), holders.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))
    return tuple((block, requests) for block, requests in ranked[:top] if requests > 1)
