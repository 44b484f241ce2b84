"""Durations and sizes as people write them on a command line: `30s`, `5m`, `1.5h`; `64KiB`, `8MB`, `1GiB`."""

from __future__ import annotations

import re

from gridctl.errors import UsageError

_AMOUNT = re.compile(r"^(?P<number>\d{1,12}(?:\.\d{1,6})?)\s*(?P<unit>[A-Za-z]*)$")
SECONDS = {"": 1.0, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
SPANS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
LONGEST_SPAN_S = 1e9  # thirty years: in nanoseconds it still fits a trace's 64-bit clock
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


def span_of(text: str, flag: str) -> float:
    """A span of a trace in seconds: a plain number, or one with s, m, h or d. Raises UsageError naming the flag.

    >>> span_of("5m", "--from")
    300.0
    """
    unit = SPANS.get(text[-1:], 1.0)
    number = text[:-1] if text[-1:] in SPANS else text
    try:
        span_s = float(number) * unit
    except ValueError:
        span_s = -1.0
    # NaN and infinity fail here too
    if not 0.0 <= span_s <= LONGEST_SPAN_S:
        raise UsageError(
            f"{text!r} is not a span of time", where=flag, fix=f"{flag} 90, {flag} 30s, {flag} 5m or {flag} 2h"
        )
    return span_s


def span_if_given(text: str | None, flag: str) -> float | None:
    """A span of a trace in seconds; None when the option was not given."""
    return None if text is None else span_of(text, flag)


def _amount(text: str, units: dict[str, float], flag: str, examples: str) -> float:
    found = _AMOUNT.match(text.strip())
    factor = units.get(found["unit"].lower()) if found is not None else None
    if found is None or factor is None:
        raise UsageError(f"not an amount: {text[:40]!r}", where=flag, fix=f"write {examples}")
    return float(found["number"]) * factor
