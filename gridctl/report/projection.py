"""Projection: the part of the globe that holds a grid's places, laid flat.

Equirectangular, with the standard parallel at the middle of the view: true to scale there, good for a country, plain
for a world. The view is centred on the shortest arc of longitudes that holds every place, so that a grid across the
antimeridian stays in one piece. Source: Snyder, Map Projections, a Working Manual (USGS PP 1395), section 12.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

SMALLEST_SPAN_DEG = 3.0
LOWEST_LAT, HIGHEST_LAT = -58.0, 78.0
"""What a world map shows: where people live."""


@dataclass(frozen=True, slots=True)
class View:
    """A window of `width` × `height` units on the globe, `scale` units to a degree of latitude."""

    width: float
    height: float
    center_lat: float
    center_lon: float
    scale: float

    def at(self, lat: float, lon: float) -> tuple[float, float]:
        """Where a point lies; y grows downwards."""
        east = (lon - self.center_lon + 180.0) % 360.0 - 180.0
        x = self.width / 2 + east * math.cos(math.radians(self.center_lat)) * self.scale
        return x, self.height / 2 - (lat - self.center_lat) * self.scale

    def holds(self, x: float, y: float) -> bool:
        """Whether a point of the window's plane is in it."""
        return 0 <= x <= self.width and 0 <= y <= self.height


def fitted(points: Sequence[tuple[float, float]], width: float, lowest: float, highest: float) -> View:
    """The view of `width` units that holds every (lat, lon), its height between `lowest` and `highest` units."""
    lats = [lat for lat, _ in points] or [LOWEST_LAT, HIGHEST_LAT]
    west, span_lon = _arc([lon for _, lon in points])
    south, north = min(lats), max(lats)
    if span_lon > 180:  # a world: the same map for every grid that spans it
        south, north = min(south, LOWEST_LAT), max(north, HIGHEST_LAT)
    center_lat, center_lon = (south + north) / 2, west + span_lon / 2
    across = max(span_lon, SMALLEST_SPAN_DEG) * max(math.cos(math.radians(center_lat)), 0.2)
    down = max(north - south, SMALLEST_SPAN_DEG)
    padding = 1.12 if span_lon <= 180 else 1.02
    height = min(max(width * down / across, lowest), highest)
    return View(width, height, center_lat, center_lon, min(width / across, height / down) / padding)


def _arc(lons: Sequence[float]) -> tuple[float, float]:
    """The western end and the length of the shortest arc that holds every longitude."""
    if not lons:
        return -180.0, 360.0
    ordered = sorted(set(lons))
    gaps = [(b - a, b) for a, b in zip(ordered, [*ordered[1:], ordered[0] + 360.0], strict=True)]
    widest, west = max(gaps)
    return (west + 180.0) % 360.0 - 180.0, 360.0 - widest
