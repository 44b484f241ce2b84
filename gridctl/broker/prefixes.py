"""Prefixes: which engine has probably which beginnings of prompts in its cache, by what was sent where. Compiled.

A pair (block hash, engine) is remembered with when and at what volume it was sent last; every engine's pairs are a
list, least recently sent first, bounded by what the engine's KV cache holds. A prompt's blocks are noted from the last
to the first, so that, as in the engines themselves, the end of a prompt is forgotten before its beginning: what an
engine is remembered to have is always a beginning, and is found by bisection.

That blocks were sent does not mean that they are still there. P(still there) is 1 while the tokens sent to the engine
since then fit into the cache that running requests leave free, and falls to 0 over one more cache; and it halves at an
age of `HALF_AGE_NS`, for restarts and traffic that nobody told us of. Block hashes have 62 bits and are salted by
tenant, so nobody profits from, or learns of, what another tenant sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridctl.kernels import compiled, fused, inner
from gridctl.units import NS_PER_S

if TYPE_CHECKING:
    from gridctl.kernels import Records

NIL = -1
HALF_AGE_NS = 600 * NS_PER_S
"""Of what nobody was seen to displace, half is still there after ten minutes: an assumption, between the two minutes
that other routers allow and an idle engine's forever."""
MOST_PAIRS = 1 << 17
"""Pairs remembered by one worker, 48 bytes each: 64 kB of prompt for a thousand conversations."""
ROW_STEP = 0x9E3779B1

PAIR = np.dtype([(name, np.int64) for name in ("block", "row", "newer", "older", "volume", "sent_ns")])
HOLDER = np.dtype([(name, np.int64) for name in ("newest", "oldest", "pairs", "limit", "volume", "capacity")])
GIVERS = 8
"""Engines looked at for one that has more than its share of a full index."""
FREE, USED, TURN = range(3)


class PrefixIndex(NamedTuple):
    """`table` is open addressing over pairs, a power of two of slots, holding a pair's number + 1 or 0. `holders` has a
    row per row of the board: its list, how many pairs it may have, tokens sent and tokens its cache holds. `counts`
    are the head of the list of free pairs, the pairs ever used, and the row that was asked last to give one up."""

    table: NDArray[np.int64]
    pairs: Records
    holders: Records
    counts: NDArray[np.int64]


def empty_index(rows: int, pairs: int = MOST_PAIRS) -> PrefixIndex:
    """Nothing remembered, and nobody who may hold anything: see `resize`."""
    size = 16
    while size < 2 * pairs:
        size *= 2
    holders = np.zeros(rows, HOLDER).view(np.recarray)
    holders.newest = holders.oldest = NIL
    return PrefixIndex(
        table=np.zeros(size, np.int64),
        pairs=np.zeros(pairs, PAIR).view(np.recarray),
        holders=holders,
        counts=np.array([NIL, 0, 0], np.int64),
    )


def resize(index: PrefixIndex, row: int, capacity_tokens: int, tokens_per_block: int) -> None:
    """Say how many tokens the cache of a row's engine holds; 0 where it keeps none. What is over is forgotten."""
    holder = index.holders[row]
    holder.capacity = capacity_tokens
    holder.limit = min(capacity_tokens // tokens_per_block, len(index.pairs) // 2)
    forget(index, row, int(holder.limit))


@inner
def _home(index: PrefixIndex, block: int, row: int) -> int:
    """The slot where the search for a pair begins."""
    return ((block >> 5) ^ (row * ROW_STEP)) & (len(index.table) - 1)


@inner
def _find(index: PrefixIndex, block: int, row: int) -> int:
    """The slot of a pair, or the free one where it would go."""
    mask = len(index.table) - 1
    slot = _home(index, block, row)
    while index.table[slot] != 0:
        pair = index.pairs[index.table[slot] - 1]
        if pair.block == block and pair.row == row:
            return slot
        slot = (slot + 1) & mask
    return slot


@inner
def _unlink(index: PrefixIndex, number: int) -> None:
    """Take a pair out of its engine's list."""
    pair = index.pairs[number]
    holder = index.holders[pair.row]
    if pair.newer == NIL:
        holder.newest = pair.older
    else:
        index.pairs[pair.newer].older = pair.older
    if pair.older == NIL:
        holder.oldest = pair.newer
    else:
        index.pairs[pair.older].newer = pair.newer


@inner
def _push(index: PrefixIndex, number: int) -> None:
    """Make a pair the newest of its engine's list."""
    pair = index.pairs[number]
    holder = index.holders[pair.row]
    pair.newer = NIL
    pair.older = holder.newest
    if holder.newest == NIL:
        holder.oldest = number
    else:
        index.pairs[holder.newest].newer = number
    holder.newest = number


@inner
def _drop(index: PrefixIndex, number: int) -> None:
    """Forget a pair. Slots behind it move up, so that no search ends too early (Knuth, volume 3, 6.4, algorithm R)."""
    mask = len(index.table) - 1
    pair = index.pairs[number]
    hole = _find(index, pair.block, pair.row)
    slot = (hole + 1) & mask
    while index.table[slot] != 0:
        other = index.pairs[index.table[slot] - 1]
        home = _home(index, other.block, other.row)
        if ((slot - home) & mask) >= ((slot - hole) & mask):
            index.table[hole] = index.table[slot]
            hole = slot
        slot = (slot + 1) & mask
    index.table[hole] = 0
    _unlink(index, number)
    index.holders[pair.row].pairs -= 1
    pair.newer = index.counts[FREE]
    index.counts[FREE] = number


@inner
def _take_free(index: PrefixIndex, row: int) -> int:
    """The number of a pair to use: a free one, else the least recently sent of this engine or of one with more, of a
    few that are looked at in turn."""
    if index.counts[FREE] == NIL and index.counts[USED] == len(index.pairs):
        giver, looks = row, 0
        while looks < GIVERS or index.holders[giver].pairs == 0:
            other = (index.counts[TURN] + 1) % len(index.holders)
            index.counts[TURN] = other
            looks += 1
            if index.holders[other].pairs > index.holders[giver].pairs:
                giver = other
        _drop(index, index.holders[giver].oldest)
    number: int = index.counts[FREE]
    if number == NIL:
        number = index.counts[USED]
        index.counts[USED] += 1
    else:
        index.counts[FREE] = index.pairs[number].newer
    return number


@fused
def remember(index: PrefixIndex, row: int, blocks: NDArray[np.int64], tokens: int, now_ns: int) -> None:
    """A prompt with these blocks was sent to the row's engine, which has `tokens` of it to compute. O(blocks)."""
    holder = index.holders[row]
    holder.volume += tokens
    for place in range(min(len(blocks), holder.limit) - 1, -1, -1):
        block = blocks[place]
        slot = _find(index, block, row)
        if index.table[slot] == 0:
            if holder.pairs >= holder.limit:
                _drop(index, holder.oldest)
            number = _take_free(index, row)
            index.table[_find(index, block, row)] = number + 1
            index.pairs[number].block = block
            index.pairs[number].row = row
            holder.pairs += 1
        else:
            number = index.table[slot] - 1
            _unlink(index, number)
        index.pairs[number].volume = holder.volume
        index.pairs[number].sent_ns = now_ns
        _push(index, number)


@fused
def matching(index: PrefixIndex, row: int, blocks: NDArray[np.int64]) -> int:
    """How many of a prompt's first blocks were sent to the row's engine and are not forgotten. O(log blocks)."""
    count = len(blocks)
    if count == 0 or index.holders[row].pairs == 0 or index.table[_find(index, blocks[0], row)] == 0:
        return 0
    if index.table[_find(index, blocks[count - 1], row)] != 0:
        return count
    low, high = 1, count
    while high - low > 1:
        middle = (low + high) >> 1
        if index.table[_find(index, blocks[middle - 1], row)] != 0:
            low = middle
        else:
            high = middle
    return low


@fused
def resident_share(index: PrefixIndex, row: int, block: int, kv_in_use: int, now_ns: int) -> float:
    """P(still in the engine's cache) of a block that was sent there, when running requests hold `kv_in_use` tokens."""
    holder = index.holders[row]
    pair = index.pairs[index.table[_find(index, block, row)] - 1]
    room = max(0, holder.capacity - kv_in_use)
    displaced = holder.volume - pair.volume - room
    share = 1.0 - float(displaced) / max(1, holder.capacity) if displaced > 0 else 1.0
    age = max(0, now_ns - pair.sent_ns)
    resident: float = max(0.0, share) * HALF_AGE_NS / (HALF_AGE_NS + age)
    return resident


@compiled
def forget(index: PrefixIndex, row: int, kept: int) -> None:
    """Forget all but the `kept` pairs of the row's engine that were sent last."""
    while index.holders[row].pairs > kept:
        _drop(index, index.holders[row].oldest)
