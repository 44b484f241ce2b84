"""Spans: lists of prefix block ids as runs of consecutive numbers, and back; compiled.

Writers mostly number blocks as they come, so the blocks a request adds are one span and a prompt has as many spans as
its session has turns. Nothing is assumed: ids in any order are spans of one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gridctl.kernels import compiled
from gridctl.traces.trace import Spans

Ints = NDArray[np.int64]


def spans_of(ids: Ints, offsets: Ints) -> Spans:
    """The spans of requests that own `ids[offsets[i]:offsets[i + 1]]`."""
    blocks = int(offsets[-1] - offsets[0])
    first, length = np.empty(blocks, np.int64), np.empty(blocks, np.int64)
    spans = np.zeros(len(offsets), np.int64)
    find_spans(ids, offsets, spans, first, length)
    return Spans(spans, first[: spans[-1]], length[: spans[-1]])


def ids_of(spans: Spans) -> tuple[Ints, Ints]:
    """Offsets and ids of the blocks."""
    counts = np.add.reduceat(np.append(spans.blocks, 0), spans.offsets[:-1]) * (np.diff(spans.offsets) > 0)
    ids = np.empty(int(spans.blocks.sum()), np.int64)
    fill_ids(spans.first, spans.blocks, ids)
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]), ids


@compiled
def find_spans(ids: Ints, offsets: Ints, spans: Ints, first: Ints, length: Ints) -> None:
    """Write the spans of each request behind each other, and where those of each begin."""
    count = 0
    for request in range(len(offsets) - 1):
        for place in range(offsets[request], offsets[request + 1]):
            if place > offsets[request] and ids[place] == ids[place - 1] + 1:
                length[count - 1] += 1
            else:
                first[count] = ids[place]
                length[count] = 1
                count += 1
        spans[request + 1] = count


@compiled
def fill_ids(first: Ints, length: Ints, ids: Ints) -> None:
    """Write the ids of all spans behind each other."""
    place = 0
    for span in range(len(first)):
        for step in range(length[span]):
            ids[place] = first[span] + step
            place += 1
