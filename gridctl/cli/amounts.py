"""Durations and sizes as people write them on a command line: `30s`, `5m`, `1.5h`; `64KiB`, `8MB`, `1GiB`."""

from __future__ import annotations

import re

from gridctl.errors import UsageError

_AMOUNT = re.compile(r"^(?P<number>\d{1,12}(?:\.\d{1,6})?)\s*(?P<unit>[A-Za-z]*)$")
SECONDS = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}


def seconds_of(text: str, flag: str) -> float:
    """Seconds. Raises UsageError naming the flag.

    >>> seconds_of("1.5m", "--grace")
    90.0
    """
    return _amount(text, SECONDS, flag, "30s, 5m or 2h")


def bytes_of(text: str, flag: str) -> int:
    """Bytes. Raises UsageError naming the flag.

    >>> bytes_of("8MiB", "--max-body")
    8388608
    """
    return round(_amount(text, {name: float(factor) for name, factor in BYTES.items()}, flag, "512KiB, 8MiB or 1GiB"))


def _amount(text: str, units: dict[str, float], flag: str, examples: str) -> float:
    found = _AMOUNT.match(text.strip())
    factor = units.get(found["unit"].lower()) if found is not None else None
    if found is None or factor is None:
        raise UsageError(f"not an amount: {text[:40]!r}", where=flag, fix=f"write {examples}")
    return float(found["number"]) * factor
