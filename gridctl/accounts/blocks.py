"""Blocks: columns worked out some rows at a time, and room for them on disk when a run is large.

Decides where derived columns lie, never what is in them: a column filled block by block holds the bits it would hold
filled at once. Of a run of tens of millions of requests the derived columns take more memory than the run itself, so
they go to a nameless temporary file (TMPDIR says where), whose pages the system may write out and take back.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

BLOCK_ROWS = 1 << 20
LARGE_ROWS = 1 << 22

Kind = TypeVar("Kind", bound=np.generic)


def blocks(n: int) -> Iterator[slice]:
    """The rows 0 … n − 1, at most `BLOCK_ROWS` at a time."""
    return (slice(start, min(n, start + BLOCK_ROWS)) for start in range(0, n, BLOCK_ROWS))


def blank(n: int, kind: type[Kind]) -> NDArray[Kind]:
    """A column of `n` zeros: in memory, or in a temporary file from `LARGE_ROWS` on."""
    if n < LARGE_ROWS:
        return np.zeros(n, kind)
    with tempfile.TemporaryFile(prefix="gridctl-") as file:
        # The mapping keeps the file alive; a plain array, because compiled code and comparisons know those.
        return np.asarray(np.memmap(file, kind, "w+", shape=(n,)))
