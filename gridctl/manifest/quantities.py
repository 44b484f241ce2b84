"""Quantities: the number a person meant when they wrote `500 ms`, `$0.02` or `1,000` where a number belongs.

Only suggests; nothing here is ever accepted silently, because a unit guessed wrong is an outage.
"""

from __future__ import annotations

import re

_QUANTITY = re.compile(r"\s*([$€£]?)\s*([-+]?[0-9][0-9,_]*(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)\s*([A-Za-zµμ%°/ -]*)\s*")

_LONGEST = 40
"""Characters; nobody writes a longer quantity."""

_FACTORS: dict[str, dict[str, float]] = {
    "_ms": {"ms": 1, "msec": 1, "millis": 1, "milliseconds": 1, "s": 1e3, "sec": 1e3, "seconds": 1e3, "us": 1e-3,
            "µs": 1e-3, "μs": 1e-3, "ns": 1e-6, "m": 6e4, "min": 6e4, "minutes": 6e4, "h": 3.6e6},
    "_us": {"us": 1, "µs": 1, "μs": 1, "ms": 1e3, "s": 1e6, "ns": 1e-3},
    "_s": {"s": 1, "sec": 1, "seconds": 1, "ms": 1e-3, "m": 60, "min": 60, "minutes": 60, "h": 3600, "hours": 3600,
           "d": 86400, "days": 86400},
    "_gib": {"gib": 1, "gi": 1, "mib": 1 / 1024, "mi": 1 / 1024, "tib": 1024, "ti": 1024, "gb": 1e9 / 2**30,
             "mb": 1e6 / 2**30, "tb": 1e12 / 2**30},
    "_gbs": {"gb/s": 1, "gbs": 1, "gbps": 0.125, "tb/s": 1000, "mb/s": 0.001},
    "tflops": {"tflops": 1, "pflops": 1000, "gflops": 0.001},
    "watts": {"w": 1, "watts": 1, "watt": 1, "kw": 1000},
    "percentile": {"%": 1},
    "lat": {"°": 1, "°n": 1, "n": 1, "°s": -1, "s": -1, "deg": 1},
    "lon": {"°": 1, "°e": 1, "e": 1, "°w": -1, "w": -1, "deg": 1},
    "population": {"k": 1e3, "m": 1e6},
    "tokens": {"k": 1e3, "m": 1e6},
    "": {"%": 0.01},
}  # fmt: skip
"""For fields whose name ends so, what one of each unit is in the field's own unit. GB are 10^9 bytes, GiB 2^30."""


def meant_number(text: str, field: str) -> float | None:
    """The number `text` most likely means for the field of that name; None when that is not plain.

    >>> meant_number("0.5 s", "threshold_ms"), meant_number("1,000", "gpus"), meant_number("fast", "rtt_ms")
    (500.0, 1000.0, None)
    """
    found = _QUANTITY.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        return None
    currency, digits, unit = found.groups()
    number = float(digits.replace(",", "").replace("_", ""))
    unit = unit.strip().lower()
    if not unit or (currency and unit.startswith("/")):
        return number
    for ending, factors in _FACTORS.items():
        if field.endswith(ending) and unit in factors:
            # ten digits hide the tail that a factor such as 1e-3 leaves
            return float(f"{number * factors[unit]:.10g}")
    return None
