"""The digest of a run: SHA-256 over what happened, so that two runs are the same exactly when their digests are.

It covers every column as little-endian int64 and the names they index; not the wall time, the run's name or its date.
"""

from __future__ import annotations

import dataclasses
import hashlib

import msgspec
import numpy as np

from gridctl.accounts.rows import RunRows
from gridctl.replay.replay import Replayed


def digest_rows(result: Replayed) -> str:
    """`sha256:` and 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for field in dataclasses.fields(RunRows):
        digest.update(field.name.encode())
        digest.update(np.ascontiguousarray(getattr(result.rows, field.name), "<i8").tobytes())
    digest.update(msgspec.json.encode((result.engines, result.origins, list(result.workloads), result.tenants)))
    return f"sha256:{digest.hexdigest()}"
