"""Instants for people and machines: UTC, RFC 3339, to the second."""

from __future__ import annotations

from datetime import UTC, datetime

from gridctl.units import NS_PER_S


def utc_text(time_ns: int) -> str:
    """Nanoseconds since 1970 as RFC 3339.

    >>> utc_text(0)
    '1970-01-01T00:00:00Z'
    """
    return datetime.fromtimestamp(time_ns // NS_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
