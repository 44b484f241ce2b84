"""Scatter: points in a terminal, with the axes around them; braille dots, or ASCII where the terminal has no more.

Decides places on a grid of characters and the round numbers beside it. A marked point is its letter, a plain one a dot;
where several share a character a letter stands above dots, the first letter above others. Must not know what the axes
mean, and writes no colour of its own: `paint` is given the letters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MARKS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
LOG_FROM = 10.0
"""An axis whose largest value is this many times its smallest is logarithmic."""
_BRAILLE = 0x2800
_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Bits of the Unicode braille patterns by column and row of a dot."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A point; `mark` is a letter, empty for a dot."""

    x: float
    y: float
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Span:
    """An axis: its ends, whether its steps are ratios, and how its numbers read."""

    low: float
    high: float
    is_log: bool
    reads: Callable[[float], str]

    def share(self, value: float) -> float:
        """Where a value lies between the ends, 0 to 1."""
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def steps(self, most: int) -> list[float]:
        """At most so many round numbers on the axis, rising."""
        if self.is_log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            tens = [float(f"{unit}e{power}") for power in range(first - 1, last + 1) for unit in (1, 2, 5)]
            inside = [value for value in tens if self.low <= value <= self.high]
            return (
                inside if len(inside) <= most else [value for value in inside if f"{value:e}".startswith("1.0")][:most]
            )
        return round_steps(self.low, self.high, most)


def round_steps(low: float, high: float, most: int) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten within [low, high], at most so many.

    >>> round_steps(0.11, 0.34, 6), round_steps(0.0, 100.0, 3)
    ([0.15, 0.2, 0.25, 0.3], [0.0, 50.0, 100.0])
    """
    unit = 10.0 ** math.floor(math.log10((high - low) / most))
    for times in (1, 2, 2.5, 5, 10, 20, 25, 50):
        step = unit * times
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            return [float(f"{number * step:.12g}") for number in range(first, last + 1)]
    return []


def span(values: Sequence[float], reads: Callable[[float], str], *, least: float | None, most: float | None) -> Span:
    """An axis that holds the values with a little room, kept within `least` and `most`."""
    low, high = min(values), max(values)
    if low > 0 and high / low >= LOG_FROM:
        return Span(low / 1.1, high * 1.1, True, reads)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    bottom, top = low - room, high + room
    if least is not None and low >= least:
        bottom = max(bottom, least)
    if most is not None and high <= most:
        top = min(top, most)
    return Span(bottom, top, False, reads)


def scatter(
    spots: Sequence[Spot],
    x: Span,
    y: Span,
    *,
    width: int,
    height: int,
    is_ascii: bool,
    paint: Callable[[str], str] = lambda text: text,
) -> list[str]:
    """Lines of a picture `width` characters wide: `height` of plot, a rule and the numbers below it."""
    labels = {
        height - 1 - round(y.share(value) * (height - 1)): y.reads(value) for value in y.steps(max(2, height // 2))
    }
    margin = max(map(len, labels.values()), default=0) + 1
    columns = max(10, width - margin - 2)
    dots, marks = _placed(spots, x, y, columns, height)
    edge, corner, rule, tick = ("|", "+", "-", "+") if is_ascii else ("│", "└", "─", "┴")
    lines = []
    for row in range(height):
        cells = []
        for column in range(columns):
            mark, dot = marks.get((column, row)), dots.get((column, row), 0)
            cells.append(paint(mark) if mark else (" " if not dot else "." if is_ascii else chr(_BRAILLE + dot)))
        lines.append(f"{labels.get(row, ''):>{margin}} {edge}{''.join(cells)}".rstrip())
    numbers = [(round(x.share(value) * (columns - 1)), x.reads(value)) for value in x.steps(max(2, columns // 12))]
    ruled, below = [rule] * columns, [" "] * (columns + margin)
    for column, text in numbers:
        ruled[column] = tick
        start = min(max(0, column - len(text) // 2), columns - len(text))
        below[start : start + len(text)] = text
    lines.append(f"{'':>{margin}} {corner}{''.join(ruled)}")
    lines.append(f"{'':>{margin}}  {''.join(below)}".rstrip())
    return lines


def _placed(
    spots: Sequence[Spot], x: Span, y: Span, columns: int, height: int
) -> tuple[dict[tuple[int, int], int], dict[tuple[int, int], str]]:
    """Which braille dots and which letters stand where."""
    dots: dict[tuple[int, int], int] = {}
    marks: dict[tuple[int, int], str] = {}
    for spot in spots:
        across, down = x.share(spot.x), 1 - y.share(spot.y)
        if spot.mark:
            marks.setdefault((round(across * (columns - 1)), round(down * (height - 1))), spot.mark)
            continue
        fine_x = min(2 * columns - 1, round(across * (columns - 1) * 2))
        fine_y = min(4 * height - 1, round(down * (height - 1) * 4))
        cell = (fine_x // 2, fine_y // 4)
        dots[cell] = dots.get(cell, 0) | _DOTS[fine_x % 2][fine_y % 4]
    return dots, marks
