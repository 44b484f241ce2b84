"""The digest of a run: SHA-256 over what happened, so that two runs are the same exactly when their digests are.

It covers every column as little-endian int64 and the names they index; not the wall time, the run's name or its date.
Columns come piece by piece, so that a run need not lie in memory.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from gridctl.accounts.rows import RunRows
from gridctl.replay.replay import Replayed
from gridctl.replay.stage import Played

PIECE_ROWS = 1 << 16


def digest_rows(result: Replayed) -> str:
    """`sha256:` and 64 hexadecimal digits."""
    return digest_columns(lambda name: pieces(getattr(result.rows, name)), result)


def digest_columns(column: Callable[[str], Iterable[NDArray[Any]]], played: Played) -> str:
    """The digest of a run whose columns `column` reads."""
    digest = hashlib.sha256()
    for field in dataclasses.fields(RunRows):
        digest.update(field.name.encode())
        for piece in column(field.name):
            digest.update(np.ascontiguousarray(piece, "<i8").view(np.uint8).data)
    digest.update(msgspec.json.encode((played.engines, played.origins, list(played.workloads), played.tenants)))
    return f"sha256:{digest.hexdigest()}"


def pieces(column: NDArray[Any]) -> Iterable[NDArray[Any]]:
    """A column in memory, piece by piece."""
    return (column[start : start + PIECE_ROWS] for start in range(0, len(column), PIECE_ROWS))
