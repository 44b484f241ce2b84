"""Trace: what was asked, when and from where, as columns. Every reader makes one; every consumer takes one.

Names (origins, workloads, tenants, models) are interned: a column holds indices into a tuple of strings, and −1 where
the trace does not say. Prefix blocks are ragged: request i owns `block_ids[block_offsets[i]:block_offsets[i + 1]]`,
ids of `block_tokens` tokens each, the last one possibly partial. An id names the block and everything before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNSAID = -1


@dataclass(frozen=True, slots=True)
class Trace:
    """`n` requests in order of arrival. Arrays are read-only by convention.

    Shapes: `(n,)` for columns, `(n + 1,)` for `block_offsets`. Arrival times are nanoseconds from the trace's start
    (≥ 0, non-decreasing); token counts are ≥ 1 for input and ≥ 1 for output. `notes` say what a reader or an overlay
    did that its user should know: rows left out, counts clamped, sizes inferred.
    """

    name: str
    arrival_ns: NDArray[np.int64]
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    origin: NDArray[np.int32]
    workload: NDArray[np.int32]
    tenant: NDArray[np.int32]
    model: NDArray[np.int32]
    session: NDArray[np.int64]
    block_offsets: NDArray[np.int64]
    block_ids: NDArray[np.int64]
    block_tokens: int = 0
    origins: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    prompts: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.arrival_ns)

    @property
    def duration_ns(self) -> int:
        """From the first arrival to the last."""
        return int(self.arrival_ns[-1] - self.arrival_ns[0]) if len(self) else 0
