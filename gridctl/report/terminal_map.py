"""Terminal map: the places of a run in characters: cities as Braille dots, places as symbols over them.

Decides characters. A symbol's shape tells its class, so the map reads without colour; where two places share a cell the
worse one shows. ASCII takes the place of Unicode where a terminal has none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from gridctl.report.map_chart import CLASS_NAMES, CLASSES, Spot, class_of
from gridctl.report.projection import fitted

Style = Literal["red", "green", "yellow"]
Paint = Callable[[str, Style], str]

SYMBOLS = {"good": "●", "fair": "■", "bad": "◎"}
ASCII_SYMBOLS = {"good": "o", "fair": "=", "bad": "X"}
PAINTS: dict[str, Style] = {"good": "green", "fair": "yellow", "bad": "red"}
MOST_CITIES = 900
_BRAILLE = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bit of each dot of a Braille cell, by row and column. Source: Unicode, chapter 21.1, Braille Patterns."""

_LEAST_WIDTH = 24
_MARGIN = 1.4


def terminal_map(spots: Sequence[Spot], width: int, height: int, *, is_ascii: bool, paint: Paint) -> list[str]:
    """The map in `height` lines of at most `width` characters."""
    points = [(spot.lat, spot.lon) for spot in spots]
    natural = fitted(points, 1.0, 0.0, 10.0)  # as high as it would be, were it one wide
    width = max(min(width, round(height * 2 * _MARGIN / natural.height)), min(width, _LEAST_WIDTH))
    view = fitted(points, width * 2, height * 4, height * 4)
    cells = [[0] * width for _ in range(height)]
    for x, y in _city_dots(view.at, width * 2, height * 4):
        cells[y // 4][x // 2] |= _DOTS[y % 4][x % 2]
    worst: dict[tuple[int, int], str] = {}
    for spot in spots:
        east, south = view.at(spot.lat, spot.lon)
        cell = (min(int(south) // 4, height - 1), min(int(east) // 2, width - 1))
        name = class_of(spot.attainment)
        worst[cell] = max(worst.get(cell, CLASSES[0]), name, key=CLASSES.index)
    symbols = ASCII_SYMBOLS if is_ascii else SYMBOLS
    lines = []
    for row in range(height):
        texts = []
        for column in range(width):
            found = worst.get((row, column))
            texts.append(_land(cells[row][column], is_ascii) if found is None else paint(symbols[found], PAINTS[found]))
        lines.append("".join(texts).rstrip())
    return lines


def map_legend(*, is_ascii: bool, paint: Paint) -> str:
    """What the symbols mean."""
    symbols = ASCII_SYMBOLS if is_ascii else SYMBOLS
    return "   ".join(f"{paint(symbols[name], PAINTS[name])} {CLASS_NAMES[name]}" for name in CLASSES)


def _land(dots: int, is_ascii: bool) -> str:
    if not dots:
        return " "
    return "." if is_ascii else chr(_BRAILLE + dots)


def _city_dots(at: Callable[[float, float], tuple[float, float]], width: int, height: int) -> set[tuple[int, int]]:
    """Dots of the most populous cities in view."""
    from gridctl.geography.cities import all_cities

    found: set[tuple[int, int]] = set()
    for city in all_cities():
        x, y = at(city.lat, city.lon)
        if 0 <= x < width and 0 <= y < height:
            found.add((int(x), int(y)))
            if len(found) == MOST_CITIES:
                break
    return found
