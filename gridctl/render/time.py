"""Instants for people and machines: UTC, RFC 3339, to the second.

SOURCE_DATE_EPOCH (seconds since 1970) takes the place of every moment a report prints, so that the same inputs make the
same bytes. Source: reproducible-builds.org, specification of SOURCE_DATE_EPOCH.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime

from gridctl.units import NS_PER_S


def utc_text(time_ns: int) -> str:
    """Nanoseconds since 1970 as RFC 3339.

    >>> utc_text(0)
    '1970-01-01T00:00:00Z'
    """
    return datetime.fromtimestamp(time_ns // NS_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def stamped_ns(time_ns: int) -> int:
    """The moment to print for `time_ns`: itself, unless the environment fixes all of them."""
    return int(os.environ["SOURCE_DATE_EPOCH"]) * NS_PER_S if is_stamped() else time_ns


def is_stamped() -> bool:
    """Whether the environment fixes the moments that reports print."""
    return re.fullmatch(r"[0-9]{1,10}", os.environ.get("SOURCE_DATE_EPOCH", "")) is not None
