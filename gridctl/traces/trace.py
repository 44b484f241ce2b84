"""Trace: what was asked, when and from where, as columns. Every reader makes one; every consumer takes one.

Names (origins, workloads, tenants, models) are interned: a column holds indices into a tuple of strings, and −1 where
the trace does not say. Prefix blocks are ragged: request i owns `block_ids[block_offsets[i]:block_offsets[i + 1]]`,
ids of `block_tokens` tokens each, the last one possibly partial. An id names the block and everything before it.

`Traffic` is what a replay needs of a trace: its names, and its requests part by part, wherever they lie.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

UNSAID = -1


class Traffic(Protocol):
    """Requests in order of arrival that are read part by part."""

    @property
    def name(self) -> str: ...
    @property
    def block_tokens(self) -> int: ...
    @property
    def origins(self) -> tuple[str, ...]: ...
    @property
    def workloads(self) -> tuple[str, ...]: ...
    @property
    def tenants(self) -> tuple[str, ...]: ...
    @property
    def models(self) -> tuple[str, ...]: ...
    @property
    def notes(self) -> tuple[str, ...]: ...
    @property
    def duration_ns(self) -> int: ...
    @property
    def blocks(self) -> BlockFacts: ...

    def __len__(self) -> int: ...

    def part(self, start: int, stop: int) -> Trace:
        """The requests `start … stop − 1`, their arrival times unchanged, their `block_offsets` counted from 0."""
        ...

    def whole(self) -> Trace:
        """All of it, in memory."""
        ...


@dataclass(frozen=True, slots=True)
class BlockFacts:
    """How many prefix blocks a trace has in all, and between which ids; 0 and −1 where it has none."""

    count: int = 0
    lowest: int = 0
    highest: int = -1


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

    @property
    def blocks(self) -> BlockFacts:
        """The prefix blocks in one look. O(blocks)."""
        if not len(self.block_ids):
            return BlockFacts()
        return BlockFacts(len(self.block_ids), int(self.block_ids.min()), int(self.block_ids.max()))

    def part(self, start: int, stop: int) -> Trace:
        """The requests `start … stop − 1`: views, but for the offsets of their blocks, which count from 0."""
        rows = slice(start, stop)
        offsets = self.block_offsets[start : stop + 1]
        return replace(
            self,
            arrival_ns=self.arrival_ns[rows],
            input_tokens=self.input_tokens[rows],
            output_tokens=self.output_tokens[rows],
            origin=self.origin[rows],
            workload=self.workload[rows],
            tenant=self.tenant[rows],
            model=self.model[rows],
            session=self.session[rows],
            block_offsets=offsets - offsets[0],
            block_ids=self.block_ids[offsets[0] : offsets[-1]],
            prompts=None if self.prompts is None else self.prompts[rows],
        )

    def whole(self) -> Trace:
        """Itself."""
        return self
