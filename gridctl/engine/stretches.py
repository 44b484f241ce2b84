"""Stretches: the prefix nodes of a whole trace, those that always come together taken as one.

Decides where a stretch begins; knows no trace and no engine. Node ids name a node and everything before it, and mostly
count up along a prompt, so a stretch is a span of consecutive ids that every prompt with one of them holds whole. It
begins where some prompt does not continue with the next id: there, and after the last node of each prompt. Three passes
over the prompts, in any pieces: `mark` all, `number` once, `link` all; then `leaves` finds a prompt's last stretch.

Memory: a quarter of a byte per id and eight bytes per stretch, of which a session makes one per turn. Ids in no
order cost a stretch each, and nothing else.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridctl.engine.state import NIL
from gridctl.kernels import compiled, inner

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
    """Finds the stretches over ids 0 … `ids` − 1. Prompt i of a pass holds `nodes[begin[i]:begin[i] + count[i]]`."""

    def __init__(self, ids: int) -> None:
        self._words = np.zeros(((ids >> WORD_BITS) + 1, 2), np.uint32)
        self._words[0, BEGINS] = 1
        self._found = NO_STRETCHES

    def mark(self, nodes: NDArray[np.int64], begin: NDArray[np.int64], count: NDArray[np.int64]) -> None:
        """First pass: note where prompts part."""
        mark_breaks(self._words, nodes, begin, count)

    def number(self) -> None:
        """Between the passes: number the stretches in order of their ids."""
        total = number_breaks(self._words)
        self._found = Stretches(np.full(total, NIL, np.int32), np.zeros(total, np.int32), 0)

    def link(self, nodes: NDArray[np.int64], begin: NDArray[np.int64], count: NDArray[np.int64]) -> bool:
        """Second pass: what comes before each stretch. False when some id follows different beginnings."""
        parent, depth, longest = self._found
        found = link_stretches(self._words, nodes, begin, count, parent, depth)
        self._found = Stretches(parent, depth, max(longest, found))
        return bool(found >= 0)

    def stretches(self) -> Stretches:
        """What was found, after both passes."""
        return self._found

    def leaves(self, nodes: NDArray[np.int64], begin: NDArray[np.int64], count: NDArray[np.int64]) -> NDArray[np.int64]:
        """The stretch of each prompt's last node; `NIL` for prompts without nodes."""
        leaves = np.full(len(begin), NIL, np.int64)
        find_leaves(self._words, nodes, begin, count, leaves)
        return leaves


def find_stretches(
    nodes: NDArray[np.int64], begin: NDArray[np.int64], count: NDArray[np.int64]
) -> tuple[Stretches, NDArray[np.int64]] | None:
    """The stretches of prompts that lie in memory, and each prompt's leaf; None when an id follows different
    beginnings."""
    finder = StretchFinder(int(nodes.max(initial=-1)) + 1)
    finder.mark(nodes, begin, count)
    finder.number()
    if not finder.link(nodes, begin, count):
        return None
    return finder.stretches(), finder.leaves(nodes, begin, count)


@inner
def _begin_at(words: NDArray[np.uint32], node: int) -> None:
    words[node >> WORD_BITS, BEGINS] |= np.uint32(1 << (node & (WORD - 1)))


@inner
def _begins_at(words: NDArray[np.uint32], node: int) -> bool:
    return (int(words[node >> WORD_BITS, BEGINS]) >> (node & (WORD - 1))) & 1 == 1


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


@compiled
def mark_breaks(
    words: NDArray[np.uint32], nodes: NDArray[np.int64], begin: NDArray[np.int64], count: NDArray[np.int64]
) -> None:
    """Note every id that does not follow the id below it, and every id whose lower neighbour is not followed by it."""
    last = (len(words) << WORD_BITS) - 1
    for prompt in range(len(begin)):
        if count[prompt] == 0:
            continue
        before = -2
        for place in range(begin[prompt], begin[prompt] + count[prompt]):
            node = nodes[place]
            if node != before + 1:
                _begin_at(words, node)
                if before >= 0 and before < last:
                    _begin_at(words, before + 1)
            before = node
        if before < last:
            _begin_at(words, before + 1)


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
    nodes: NDArray[np.int64],
    begin: NDArray[np.int64],
    count: NDArray[np.int64],
    parent: NDArray[np.int32],
    depth: NDArray[np.int32],
) -> int:
    """Fill in parents and depths; returns the most stretches a prompt has, −1 when a stretch has two parents."""
    longest = 0
    for prompt in range(len(begin)):
        place, stop = begin[prompt], begin[prompt] + count[prompt]
        before, steps = NIL, 0
        while place < stop:
            stretch = _number_of(words, nodes[place])
            place += 1
            while place < stop and nodes[place] == nodes[place - 1] + 1 and not _begins_at(words, nodes[place]):
                place += 1
            if depth[stretch] == 0:
                parent[stretch] = before
                depth[stretch] = place - begin[prompt]
            elif parent[stretch] != before:
                return -1
            before = stretch
            steps += 1
        longest = max(longest, steps)
    return longest


@compiled
def find_leaves(
    words: NDArray[np.uint32],
    nodes: NDArray[np.int64],
    begin: NDArray[np.int64],
    count: NDArray[np.int64],
    leaves: NDArray[np.int64],
) -> None:
    """Write the stretch of each prompt's last node."""
    for prompt in range(len(begin)):
        if count[prompt] > 0:
            leaves[prompt] = _number_of(words, nodes[begin[prompt] + count[prompt] - 1])
