"""Trace: what was asked, when and from where, as columns. Every reader makes one; every consumer takes one.

Names (origins, workloads, tenants, models) are interned: a column holds indices into a tuple of strings, and −1 where
the trace does not say. Prefix blocks are ragged: request i owns `block_ids[block_offsets[i]:block_offsets[i + 1]]`,
ids of `block_tokens` tokens each, the last one possibly partial. An id names the block and everything before it.

`Traffic` is what a replay needs of a trace: its names, and its requests part by part, wherever they lie.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

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

    def rows(self, start: int, stop: int) -> Trace:
        """The requests `start … stop − 1` without prefix blocks and prompts, their arrival times unchanged."""
        ...

    def spans(self, start: int, stop: int) -> Spans:
        """The prefix blocks of the requests `start … stop − 1`."""
        ...

    def whole(self) -> Trace:
        """All of it, in memory."""
        ...


class Spans(NamedTuple):
    """Prefix blocks as spans of consecutive ids: request i has those numbered `offsets[i]` … `offsets[i + 1] − 1`, and
    span s is the ids `first[s]` … `first[s] + blocks[s] − 1`."""

    offsets: NDArray[np.int64]
    first: NDArray[np.int64]
    blocks: NDArray[np.int64]


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
    (≥ 0, non-decreasing); token counts are ≥ 1 for input and ≥ 1 for output. Requests with one number in `answers` have
    one right answer. `notes` say what a reader or an overlay
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
    answers: NDArray[np.int64] | None = None
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

    def rows(self, start: int, stop: int) -> Trace:
        """The requests `start … stop − 1` without prefix blocks and prompts: views."""
        some = slice(start, stop)
        return replace(
            self,
            arrival_ns=self.arrival_ns[some],
            input_tokens=self.input_tokens[some],
            output_tokens=self.output_tokens[some],
            origin=self.origin[some],
            workload=self.workload[some],
            tenant=self.tenant[some],
            model=self.model[some],
            session=self.session[some],
            block_offsets=np.zeros(len(self.arrival_ns[some]) + 1, np.int64),
            block_ids=np.zeros(0, np.int64),
            prompts=None,
            answers=None if self.answers is None else self.answers[some],
        )

    def spans(self, start: int, stop: int) -> Spans:
        """The prefix blocks of the requests `start … stop − 1`. O(blocks)."""
        from gridctl.traces.spans import spans_of

        return spans_of(self.block_ids, self.block_offsets[start : stop + 1])

    def whole(self) -> Trace:
        """Itself."""
        return self
