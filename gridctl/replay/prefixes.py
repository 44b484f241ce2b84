"""Prefix blocks of a trace → nodes of the twin: regrouped to a size every engine's blocks divide, ids made dense.

A trace's block id names the block and everything before it, so the last id of a group of blocks names the group.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm

import numpy as np
from numpy.typing import NDArray

from gridctl.traces.trace import Trace

LARGEST_NODE_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class PrefixNodes:
    """Whole prefix nodes of every request: request i owns `ids[first[i]:first[i] + full[i]]`, `tokens` tokens each."""

    tokens: int
    ids: NDArray[np.int64]
    first: NDArray[np.int64]
    full: NDArray[np.int64]
    note: str = ""


def prefix_nodes(trace: Trace, block_sizes: set[int]) -> PrefixNodes:
    """Regroup the trace's blocks for engines with these block sizes. No nodes, and a note, when none fit both."""
    n = len(trace)
    empty = PrefixNodes(0, np.zeros(0, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int64))
    if trace.block_tokens == 0 or len(trace.block_ids) == 0 or not block_sizes:
        return empty
    tokens = lcm(trace.block_tokens, *block_sizes)
    if tokens > LARGEST_NODE_TOKENS:
        sizes = ", ".join(str(size) for size in sorted(block_sizes))
        note = f"prefix blocks of {trace.block_tokens} tokens do not fit engine blocks of {sizes}: no prefix reuse"
        return PrefixNodes(0, empty.ids, empty.first, empty.full, note)
    group = tokens // trace.block_tokens
    blocks = np.diff(trace.block_offsets)
    full = np.minimum(trace.input_tokens // tokens, blocks // group)
    first = np.concatenate([[0], np.cumsum(full)])
    within = np.arange(first[-1]) - np.repeat(first[:-1], full)
    last_of_group = np.repeat(trace.block_offsets[:-1], full) + (within + 1) * group - 1
    _, ids = np.unique(trace.block_ids[last_of_group], return_inverse=True)
    return PrefixNodes(tokens, ids.astype(np.int64), first[:-1], full)
