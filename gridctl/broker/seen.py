"""Seen: the rows of a decision as bytes, so that it can be recorded, and routed again exactly as it was.

Version, counts, the request's record, the policy's record, then the candidate rows as `route` saw them, little-endian.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridctl.errors import InputError
from gridctl.kernels import Records
from gridctl.routing.rows import CANDIDATE, POLICY, REQUEST

VERSION = 1
_HEAD = struct.Struct("<HHii")


class Seen(NamedTuple):
    """A decision's inputs, and the index of the row it chose (negative: nobody)."""

    rows: Records
    request: np.record
    policy: np.record
    choice: int


def keep_seen(
    rows: NDArray[np.void], count: int, request: NDArray[np.void], policy: NDArray[np.void], choice: int
) -> bytes:
    """The first `count` rows with one request and one policy record (arrays of one)."""
    return b"".join(
        (
            _HEAD.pack(VERSION, CANDIDATE.itemsize, count, choice),
            request.tobytes(),
            policy.tobytes(),
            rows[:count].tobytes(),
        )
    )


def read_seen(kept: bytes) -> Seen:
    """What `keep_seen` kept. Raises InputError for bytes that are not that, or another version's."""
    fixed = _HEAD.size + REQUEST.itemsize + POLICY.itemsize
    if len(kept) >= fixed:
        version, width, count, choice = _HEAD.unpack_from(kept)
        whole = len(kept) == fixed + count * CANDIDATE.itemsize
        if version == VERSION and width == CANDIDATE.itemsize and whole and choice < count:
            request = np.frombuffer(kept, REQUEST, 1, _HEAD.size).copy().view(np.recarray)[0]
            policy = np.frombuffer(kept, POLICY, 1, _HEAD.size + REQUEST.itemsize).copy().view(np.recarray)[0]
            rows = np.frombuffer(kept, CANDIDATE, count, fixed).copy().view(np.recarray)
            return Seen(rows, request, policy, choice)
    raise InputError("the decision was recorded by another gridctl, or is damaged", where="recorded decision")
