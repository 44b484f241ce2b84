"""Stretches: the prefix nodes of a whole trace, those that always come together taken as one.

Decides where a stretch begins; knows no trace and no engine. Node ids name a node and everything before it, and mostly
count up along a prompt, so a stretch is a span of consecutive ids that every prompt with one of them holds whole. It
begins where some prompt does not continue with the next id: there, and after the last node of each prompt. Three passes
over the prompts, in any pieces: `mark` all, `number` once, `link` all; then `leaves` finds a prompt's last stretch.

Prompts come as spans of consecutive ids, of which the first `count` nodes are looked at.

Memory: a quarter of a byte per id and eight bytes per stretch, of which a session makes one per turn. Ids in no
order cost a stretch each, and nothing else.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridctl.engine.state import NIL
from gridctl.kernels import compiled, inner

Ints = NDArray[np.int64]

WORD_BITS = 5
WORD = 1 << WORD_BITS
BEGINS, BEFORE = range(2)
"""Columns of a word's entry: which of its 32 ids begin a stretch, and how many stretches begin in earlier words."""


class Stretches(NamedTuple):
    """Per stretch the one before it (`NIL` at a prompt's beginning) and the nodes of a prompt up to its end; and how
    many stretches the longest prompt has."""

    parent: NDArray[np.int32]
    depth: NDArray[np.int32]
    longest: int


NO_STRETCHES = Stretches(np.zeros(0, np.int32), np.zeros(0, np.int32), 0)


class StretchFinder:
    """Finds the stretches over ids 0 … `ids` − 1. In each pass prompt i has the spans `offsets[i]` … `offsets[i + 1]`
    − 1, span s being the ids from `first[s]` on, `nodes[s]` of them; its first `count[i]` nodes are looked at."""

    def __init__(self, ids: int) -> None:
        self._words = np.zeros(((ids >> WORD_BITS) + 1, 2), np.uint32)
        self._words[0, BEGINS] = 1
        self._found = NO_STRETCHES

    def mark(self, offsets: Ints, first: Ints, nodes: Ints, count: Ints) -> None:
        """First pass: note where prompts part."""
        mark_breaks(self._words, offsets, first, nodes, count)

    def number(self) -> None:
        """Between the passes: number the stretches in order of their ids."""
        total = number_breaks(self._words)
        self._found = Stretches(np.full(total, NIL, np.int32), np.zeros(total, np.int32), 0)

    def link(self, offsets: Ints, first: Ints, nodes: Ints, count: Ints) -> bool:
        """Second pass: what comes before each stretch. False when some id follows different beginnings."""
        parent, depth, longest = self._found
        steps = link_stretches(self._words, offsets, first, nodes, count, parent, depth)
        self._found = Stretches(parent, depth, max(longest, steps))
        return bool(steps >= 0)

    def stretches(self) -> Stretches:
        """What was found, after both passes."""
        return self._found

    def leaves(self, offsets: Ints, first: Ints, nodes: Ints, count: Ints) -> Ints:
        """The stretch of each prompt's last node; `NIL` for prompts without nodes."""
        leaves = np.full(len(count), NIL, np.int64)
        find_leaves(self._words, offsets, first, nodes, count, leaves)
        return leaves


@inner
def _begin_at(words: NDArray[np.uint32], node: int) -> None:
    words[node >> WORD_BITS, BEGINS] |= np.uint32(1 << (node & (WORD - 1)))


@inner
def _ones(bits: int) -> int:
    """How many of 32 bits are set: sums of neighbouring bits, pairs, nibbles, then all bytes by one product."""
    bits = bits - ((bits >> 1) & 0x55555555)
    bits = (bits & 0x33333333) + ((bits >> 2) & 0x33333333)
    bits = (bits + (bits >> 4)) & 0x0F0F0F0F
    return ((bits * 0x01010101) & 0xFFFFFFFF) >> 24


@inner
def _number_of(words: NDArray[np.uint32], node: int) -> int:
    """The stretch that holds `node`: how many begin up to it, less one."""
    word = node >> WORD_BITS
    upto = (2 << (node & (WORD - 1))) - 1
    return int(words[word, BEFORE]) + _ones(int(words[word, BEGINS]) & upto) - 1


@inner
def _next_beginning(words: NDArray[np.uint32], node: int, stop: int) -> int:
    """The first id after `node` at which a stretch begins, at most `stop`."""
    following = node + 1
    while following < stop:
        bits = int(words[following >> WORD_BITS, BEGINS]) >> (following & (WORD - 1))
        if bits == 0:
            following = ((following >> WORD_BITS) + 1) << WORD_BITS
            continue
        while bits & 1 == 0:
            bits >>= 1
            following += 1
        break
    return min(following, stop)


@compiled
def mark_breaks(words: NDArray[np.uint32], offsets: Ints, first: Ints, nodes: Ints, count: Ints) -> None:
    """A stretch begins where a span does, and where another would go on after the end of one."""
    end = len(words) << WORD_BITS
    for prompt in range(len(count)):
        left = count[prompt]
        for span in range(offsets[prompt], offsets[prompt + 1]):
            if left <= 0:
                break
            _begin_at(words, first[span])
            stop = first[span] + min(left, nodes[span])
            if stop < end:
                _begin_at(words, stop)
            left -= nodes[span]


@compiled
def number_breaks(words: NDArray[np.uint32]) -> int:
    """Count the stretches that begin before each word; returns how many there are."""
    total = 0
    for word in range(len(words)):
        words[word, BEFORE] = np.uint32(total)
        total += _ones(int(words[word, BEGINS]))
    return total


@compiled
def link_stretches(
    words: NDArray[np.uint32],
    offsets: Ints,
    first: Ints,
    nodes: Ints,
    count: Ints,
    parent: NDArray[np.int32],
    depth: NDArray[np.int32],
) -> int:
    """Fill in parents and depths; returns the most stretches a prompt has, −1 when a stretch has two parents."""
    longest = 0
    for prompt in range(len(count)):
        done, before, steps = 0, NIL, 0
        for span in range(offsets[prompt], offsets[prompt + 1]):
            node = first[span]
            stop = node + min(count[prompt] - done, nodes[span])
            while node < stop:
                stretch = _number_of(words, node)
                following = _next_beginning(words, node, stop)
                done += following - node
                node = following
                if depth[stretch] == 0:
                    parent[stretch] = before
                    depth[stretch] = done
                elif parent[stretch] != before:
                    return -1
                before = stretch
                steps += 1
        longest = max(longest, steps)
    return longest


@compiled
def find_leaves(words: NDArray[np.uint32], offsets: Ints, first: Ints, nodes: Ints, count: Ints, leaves: Ints) -> None:
    """Write the stretch of each prompt's last node."""
    for prompt in range(len(count)):
        left = count[prompt]
        span = offsets[prompt]
        while left > 0:
            if left <= nodes[span]:
                leaves[prompt] = _number_of(words, first[span] + left - 1)
            left -= nodes[span]
            span += 1
