"""Seen: the rows of a decision as bytes, so that it can be recorded, and routed again exactly as it was.

Version, counts, the request's record, the policy's record, then the candidate rows as `route` saw them and the facts
beside them (see `rows.FACTS`), little-endian. Every decision is kept, so keeping one is slices of memory joined: no
array is made for it.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridctl.broker.rows import FACTS
from gridctl.errors import InputError
from gridctl.kernels import Records
from gridctl.routing.rows import CANDIDATE, POLICY, REQUEST

VERSION: Final = 2
FACT_BYTES: Final = FACTS * 8
_WIDTH: Final = CANDIDATE.itemsize + FACT_BYTES
_HEAD: Final = struct.Struct("<HHii")
MOST_KNOWN: Final = 1024
"""Shapes of decisions whose places are remembered."""


class Seen(NamedTuple):
    """A decision's inputs, and the index of the row it chose (negative: nobody)."""

    rows: Records
    facts: NDArray[np.float64]
    request: np.record
    policy: np.record
    choice: int


class SeenRows:
    """Where decisions leave what they went by: rows and facts as the last one wrote them, and a request's and a
    policy's record for every workload. `keep` copies out what one decision read."""

    __slots__ = ("_facts", "_known", "_policies", "_requests", "_rows")

    def __init__(
        self, rows: NDArray[np.void], facts: NDArray[np.float64], requests: NDArray[np.void], policies: NDArray[np.void]
    ) -> None:
        self._rows, self._facts = _bytes_of(rows), _bytes_of(facts)
        self._requests, self._policies = _bytes_of(requests), _bytes_of(policies)
        self._known: dict[tuple[int, int, int], list[bytes | memoryview]] = {}

    def keep(self, workload: int, count: int, choice: int) -> bytes:
        """The first `count` rows and their facts, with one workload's records. O(count), a third of a microsecond."""
        parts = self._known.get((workload, count, choice))
        if parts is None:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            parts = self._known[workload, count, choice] = self._parts(workload, count, choice)
        return b"".join(parts)

    def _parts(self, workload: int, count: int, choice: int) -> list[bytes | memoryview]:
        """Where what a decision of that shape has read stands; the same memory is written again by every decision."""
        request, policy = workload * REQUEST.itemsize, workload * POLICY.itemsize
        return [
            _HEAD.pack(VERSION, _WIDTH, count, choice),
            self._requests[request : request + REQUEST.itemsize],
            self._policies[policy : policy + POLICY.itemsize],
            self._rows[: count * CANDIDATE.itemsize],
            self._facts[: count * FACT_BYTES],
        ]


def _bytes_of(rows: NDArray[np.void] | NDArray[np.float64]) -> memoryview:
    """An array's memory, not a copy of it."""
    return rows.view(np.ndarray).reshape(-1).view(np.uint8).data


def keep_seen(
    rows: NDArray[np.void],
    facts: NDArray[np.float64],
    count: int,
    request: NDArray[np.void],
    policy: NDArray[np.void],
    choice: int,
) -> bytes:
    """The first `count` rows and their facts, with one request and one policy record (arrays of one)."""
    return SeenRows(rows, facts, request, policy).keep(0, count, choice)


def read_seen(kept: bytes) -> Seen:
    """What `keep_seen` kept. Raises InputError for bytes that are not that, or another version's."""
    fixed = _HEAD.size + REQUEST.itemsize + POLICY.itemsize
    if len(kept) >= fixed:
        version, width, count, choice = _HEAD.unpack_from(kept)
        whole = len(kept) == fixed + count * _WIDTH
        if version == VERSION and width == _WIDTH and whole and choice < count:
            request = np.frombuffer(kept, REQUEST, 1, _HEAD.size).copy().view(np.recarray)[0]
            policy = np.frombuffer(kept, POLICY, 1, _HEAD.size + REQUEST.itemsize).copy().view(np.recarray)[0]
            rows = np.frombuffer(kept, CANDIDATE, count, fixed).copy().view(np.recarray)
            facts = np.frombuffer(kept, np.float64, count * FACTS, fixed + rows.nbytes).reshape(count, FACTS)
            return Seen(rows, facts, request, policy, choice)
    raise InputError("the decision was recorded by another gridctl, or is damaged", where="recorded decision")
