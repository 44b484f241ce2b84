"""Axis: from numbers to places on a chart, and the round numbers that stand beside them.

Decides scales and ticks. Must not draw.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_TIMES_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800)


@dataclass(frozen=True, slots=True)
class Scale:
    """A linear or logarithmic axis from `low` to `high`, drawn from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def at(self, value: float) -> float:
        """Where a value lies; what is off the axis lies at its end."""
        held = min(max(value, self.low), self.high)
        if self.is_log:
            share = math.log(held / self.low) / math.log(self.high / self.low)
        else:
            share = (held - self.low) / ((self.high - self.low) or 1.0)
        return self.start + share * (self.end - self.start)


def ticks(high: float, about: int = 4) -> list[float]:
    """Round numbers from 0 up to the first that is not below `high`, about so many steps.

    >>> ticks(33.1), ticks(0.0)
    ([0.0, 10.0, 20.0, 30.0, 40.0], [0.0, 1.0])
    """
    if high <= 0 or not math.isfinite(high):
        return [0.0, 1.0]
    rough = high / about
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * times for times in (1, 2, 2.5, 5, 10) if unit * times >= rough * 0.999)
    return [float(f"{step * count:.12g}") for count in range(math.ceil(high / step - 1e-9) + 1)]


def decades(low: float, high: float) -> list[float]:
    """The powers of ten from `low` to `high`.

    >>> decades(1.0, 1000.0)
    [1.0, 10.0, 100.0, 1000.0]
    """
    first, last = round(math.log10(low)), round(math.log10(high))
    return [float(f"1e{power}") for power in range(first, last + 1)]


def time_ticks(length_s: float, about: int = 5) -> list[tuple[float, str]]:
    """Round moments of a run and how they read, from its start.

    >>> time_ticks(540.0, 3)
    [(0, '0'), (300, '5 min')]
    """
    step = next((step for step in _TIMES_S if length_s / step <= about), None)
    if step is None:
        step = 86_400 * math.ceil(length_s / 86_400 / about)
    unit_s, unit = next((size, name) for size, name in _UNITS if step % size == 0)
    return [
        (at, f"{at // unit_s:,} {unit}" if at else "0") for at in (step * k for k in range(int(length_s / step) + 1))
    ]


_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def duration_text(seconds: float) -> str:
    """How long, in two units at most.

    >>> [duration_text(s) for s in (0.25, 75, 3600, 90_000)]
    ['0.25 s', '1 min 15 s', '1 h', '1 d 1 h']
    """
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole, parts = round(seconds), []
    for size, name in _UNITS:
        count, whole = divmod(whole, size)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])
