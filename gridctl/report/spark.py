"""Sparks: a row of numbers as a row of characters, in Unicode or in ASCII.

Decides levels: 0 is the lowest bar, the largest number the highest; where there is no number there is a blank.
"""

from __future__ import annotations

from collections.abc import Sequence

BARS = "▁▂▃▄▅▆▇█"
ASCII_BARS = "_.-:=+*#"


def spark(values: Sequence[float | None], *, is_ascii: bool = False, low: float = 0.0) -> str:
    """One character per value, from `low` to the largest.

    >>> spark([0, 1, None, 7]), spark([0, 7], is_ascii=True)
    ('▁▂ █', '_#')
    """
    bars = ASCII_BARS if is_ascii else BARS
    high = max((value for value in values if value is not None), default=low)
    span = (high - low) or 1.0
    return "".join(
        " " if value is None else bars[min(int((max(value, low) - low) / span * len(bars)), len(bars) - 1)]
        for value in values
    )


def squeezed(values: Sequence[float | None], width: int) -> list[float | None]:
    """At most `width` values: neighbours are averaged, those without a value left out.

    >>> squeezed([1, 3, None, 5], 2)
    [2.0, 5.0]
    """
    n = len(values)
    if n <= width:
        return list(values)
    found: list[float | None] = []
    for column in range(width):
        known = [value for value in values[column * n // width : (column + 1) * n // width] if value is not None]
        found.append(sum(known) / len(known) if known else None)
    return found
