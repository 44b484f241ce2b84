"""Desired: the document that tells a site the whole of what it should hold, signed.

Decides how long it is good for. Its expiry moves once an hour, so that a site which asks every half minute gets the
very same bytes, and "not modified", in between.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import msgspec

from gridctl.errors import UsageError
from gridctl.rollout.protocol import Desired, Wanted
from gridctl.rollout.releasekey import ReleaseKey

RENEWED_EVERY_S = 3600.0


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """How often sites ask, how long they may be silent while they try a version, how long a document is good."""

    next_sync_s: float = 30.0
    lease_s: float = 180.0
    valid_s: float = 86_400.0


LEASES = 6
"""Reports that a site in trial may miss before its lease is over."""


def timing_of(next_sync_s: float) -> Timing:
    """The timing of agents that report so often. Raises: UsageError."""
    if not 0.05 <= next_sync_s <= 3600:
        raise UsageError(f"{next_sync_s:g} seconds between reports", where="--agent-sync", fix="50ms to 1h")
    return Timing(next_sync_s=next_sync_s, lease_s=LEASES * next_sync_s)


def desired_of(
    site: str, generation: int, wanted: Sequence[Wanted], now_s: float, timing: Timing, key: ReleaseKey
) -> Desired:
    """The document for a site, signed. Its counter is its generation: both only grow."""
    renewed_s = math.floor(now_s / RENEWED_EVERY_S) * RENEWED_EVERY_S
    return key.sign(
        Desired(
            site=site,
            generation=generation,
            counter=generation,
            expires_unix_s=renewed_s + RENEWED_EVERY_S + timing.valid_s,
            lease_s=timing.lease_s,
            next_sync_s=timing.next_sync_s,
            wanted=tuple(wanted),
        )
    )


def etag_of(desired: Desired) -> str:
    """What stands for exactly this document in `ETag` and `If-None-Match`."""
    return f'"{hashlib.sha256(msgspec.json.encode(desired)).hexdigest()[:32]}"'
