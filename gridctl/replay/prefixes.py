"""Prefix blocks of a trace → nodes of the twin, and their stretches: the trace read through twice, part by part.

A node has a size that every engine's blocks divide. A trace's block id names the block and everything before it, so the
last id of a group of blocks names the group. Where a node is one block and ids are nearly dense, as in most traces,
they are used as they are and nothing grows with the trace but its stretches; else the ids are renumbered, in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import lcm

import numpy as np
from numpy.typing import NDArray

from gridctl.engine.stretches import NO_STRETCHES, Stretches, StretchFinder
from gridctl.kernels import compiled
from gridctl.traces.spans import spans_of
from gridctl.traces.trace import Spans, Trace, Traffic

LARGEST_NODE_TOKENS = 8192
SPARSEST = 4
"""Ids up to so many times their count are used as they are: the table over them is then small enough."""
PART_REQUESTS = 50_000

Ints = NDArray[np.int64]


class Prefixes:
    """The stretches of a trace's prefix nodes of `tokens` tokens each (0: no prefixes), and where each request's prompt
    lies among them. `note` says what was done to the trace's own blocks, if anything."""

    def __init__(self, traffic: Traffic, block_sizes: set[int]) -> None:
        """Read the trace for engines with these block sizes. O(blocks)."""
        self.note = ""
        self.stretches: Stretches = NO_STRETCHES
        self._renumbered: PrefixNodes | None = None
        self.tokens = 0
        facts = traffic.blocks
        if traffic.block_tokens == 0 or facts.count == 0 or not block_sizes:
            return
        tokens = lcm(traffic.block_tokens, *block_sizes)
        is_dense = facts.lowest >= 0 and facts.highest <= SPARSEST * facts.count
        if tokens == traffic.block_tokens <= LARGEST_NODE_TOKENS and is_dense:
            self.tokens = tokens
            self._finder = StretchFinder(facts.highest + 1)
            if self._find(traffic):
                return
        nodes = prefix_nodes(traffic.whole(), block_sizes)
        self.note, self.tokens = nodes.note, nodes.tokens
        if self.tokens == 0:
            return
        self._renumbered = nodes
        self._finder = StretchFinder(int(nodes.ids.max(initial=-1)) + 1)
        is_chained = self._find(traffic)
        assert is_chained, "prefix_nodes gives every id one beginning"

    def of(self, traffic: Traffic, rows: Trace, start: int) -> tuple[Ints, Ints]:
        """Per request of `rows`, the first of which is number `start` of the trace: the stretch of the last whole node
        of its prompt, and how many whole nodes that has."""
        if self.tokens == 0:
            return np.full(len(rows), -1, np.int64), np.zeros(len(rows), np.int64)
        spans, count = self._nodes(traffic, rows, start)
        return self._finder.leaves(*spans, count), count

    def _find(self, traffic: Traffic) -> bool:
        for rows, start in parts(traffic):
            spans, count = self._nodes(traffic, rows, start)
            self._finder.mark(*spans, count)
        self._finder.number()
        for rows, start in parts(traffic):
            spans, count = self._nodes(traffic, rows, start)
            if not self._finder.link(*spans, count):
                return False
        self.stretches = self._finder.stretches()
        return True

    def _nodes(self, traffic: Traffic, rows: Trace, start: int) -> tuple[Spans, Ints]:
        """Spans of node ids, and how many whole nodes each request has of them."""
        stop = start + len(rows)
        if self._renumbered is not None:
            offsets = self._renumbered.first[start : stop + 1]
            return spans_of(self._renumbered.ids, offsets), np.diff(offsets)
        spans = traffic.spans(start, stop)
        return spans, np.minimum(rows.input_tokens // self.tokens, blocks_in(spans))


def parts(traffic: Traffic) -> Iterator[tuple[Trace, int]]:
    """The requests of the trace without their blocks, piece by piece, each with the number of its first."""
    for start in range(0, len(traffic), PART_REQUESTS):
        yield traffic.rows(start, min(len(traffic), start + PART_REQUESTS)), start


def blocks_in(spans: Spans) -> Ints:
    """How many blocks each request has."""
    total = np.concatenate([np.zeros(1, np.int64), np.cumsum(spans.blocks)])
    counts: Ints = np.diff(total[spans.offsets])
    return counts


@dataclass(frozen=True, slots=True)
class PrefixNodes:
    """Whole prefix nodes of every request: request i owns `ids[first[i]:first[i + 1]]`, `tokens` tokens each."""

    tokens: int
    ids: NDArray[np.int64]
    first: NDArray[np.int64]
    note: str = ""


def prefix_nodes(trace: Trace, block_sizes: set[int]) -> PrefixNodes:
    """Regroup the trace's blocks for engines with these block sizes. No nodes, and a note, when none fit both."""
    n = len(trace)
    empty = PrefixNodes(0, np.zeros(0, np.int64), np.zeros(n + 1, np.int64))
    if trace.block_tokens == 0 or len(trace.block_ids) == 0 or not block_sizes:
        return empty
    tokens = lcm(trace.block_tokens, *block_sizes)
    if tokens > LARGEST_NODE_TOKENS:
        sizes = ", ".join(str(size) for size in sorted(block_sizes))
        note = f"prefix blocks of {trace.block_tokens} tokens do not fit engine blocks of {sizes}: no prefix reuse"
        return PrefixNodes(0, empty.ids, empty.first, note)
    group = tokens // trace.block_tokens
    blocks = np.diff(trace.block_offsets)
    full = np.minimum(trace.input_tokens // tokens, blocks // group)
    first = np.concatenate([[0], np.cumsum(full)])
    # Position within the request, then within the trace, in place: these are the largest arrays of a replay.
    last_of_group = np.arange(1, int(first[-1]) + 1, dtype=np.int64)
    last_of_group -= np.repeat(first[:-1], full)
    last_of_group *= group
    last_of_group += np.repeat(trace.block_offsets[:-1] - 1, full)
    blocks_named, note = trace.block_ids, ""
    if group > 1:
        # Only an id that names all before it may name its group: two groups could differ in all but their last block.
        blocks_named, note = _chained(_dense(trace.block_ids), trace.block_offsets)
    ids, further = _chained(_dense(blocks_named[last_of_group]), first)
    number_as_seen(ids, np.full(int(ids.max(initial=-1)) + 1, -1, np.int64))
    return PrefixNodes(tokens, ids, first, note or further)


def _chained(ids: NDArray[np.int64], first: NDArray[np.int64]) -> tuple[NDArray[np.int64], str]:
    """The ids, each with one predecessor in the whole trace. A trace whose ids name a block's own tokens only is
    renumbered by what comes before, and a note says so: the twin relies on a block implying its predecessors."""
    before = np.empty_like(ids)
    before[1:] = ids[:-1]
    before[first[:-1][np.diff(first) > 0]] = -1
    predecessor = np.full(int(ids.max(initial=-1)) + 1, -2, np.int64)
    predecessor[ids] = before
    if np.array_equal(predecessor[ids], before):
        return ids, ""
    renumbered = np.empty_like(ids)
    chain_ids(ids, first, np.full(_table_size(len(ids)), -1, np.int64), before, renumbered)
    return renumbered, "prefix block ids repeat after different blocks: taken as equal only after equal beginnings"


def _table_size(entries: int) -> int:
    size = 16
    while size < 2 * entries:
        size *= 2
    return size


@compiled
def number_as_seen(ids: NDArray[np.int64], numbers: NDArray[np.int64]) -> None:
    """Number ids in place in the order in which they come, so that they count up along prompts; `numbers` is −1."""
    seen = 0
    for place in range(len(ids)):
        if numbers[ids[place]] < 0:
            numbers[ids[place]] = seen
            seen += 1
        ids[place] = numbers[ids[place]]


@compiled
def chain_ids(
    ids: NDArray[np.int64],
    first: NDArray[np.int64],
    table: NDArray[np.int64],
    parent: NDArray[np.int64],
    renumbered: NDArray[np.int64],
) -> None:
    """Number each (number of the block before, id) as it comes. `table` is empty open addressing over positions;
    `parent` is overwritten with the number of the block before."""
    mask = len(table) - 1
    count = 0
    for request in range(len(first) - 1):
        before = -1
        for position in range(first[request], first[request + 1]):
            parent[position] = before
            slot = ((ids[position] & 0x3FFFFFFF) * 0x9E3779B1 ^ ((before + 1) & 0x3FFFFFFF) * 0x85EBCA6B) & mask
            while table[slot] >= 0:
                other = table[slot]
                if ids[other] == ids[position] and parent[other] == before:
                    break
                slot = (slot + 1) & mask
            if table[slot] < 0:
                table[slot] = position
                renumbered[position] = count
                count += 1
            else:
                renumbered[position] = renumbered[table[slot]]
            before = renumbered[position]


def _dense(ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Ids renumbered from 0 unless they are nearly so already: most traces number their blocks as they come."""
    if len(ids) == 0 or (int(ids.min()) >= 0 and int(ids.max()) <= SPARSEST * len(ids)):
        return ids
    _, numbers = np.unique(ids, return_inverse=True)
    return numbers.astype(np.int64)
