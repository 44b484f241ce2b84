"""Place: a named point on the globe, and how the words a person types become one.

Decides the great-circle distance, the one every other room uses. Must not estimate time. The sphere has the mean
radius of the Earth (IUGG R1 = 6,371.0088 km), so distances are within 0.6 % of those on the ellipsoid. The haversine
form is exact enough for points metres apart and has no special case at the poles or across the antimeridian.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from gridctl.errors import InputError, NotFoundError, did_you_mean
from gridctl.geography.cities import all_cities, find_city
from gridctl.resources import Site
from gridctl.resources.site import Tier

EARTH_RADIUS_KM = 6371.0088
_COORDINATES = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*,\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*")
_NUMBERLIKE = re.compile(r"\s*[+-]?[\d.]+\s*,\s*[+-]?[\d.]+\s*|\s*[+-]?(nan|inf|infinity)\s*,.*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Place:
    """A point in a country; `tier` is set when it is a site of the grid."""

    name: str
    lat: float
    lon: float
    country: str
    tier: Tier | None = None


def distance_km(a: Place, b: Place) -> float:
    """Great-circle distance, symmetric to the last bit.

    Source: R. W. Sinnott, "Virtues of the Haversine", Sky and Telescope 68(2), 1984.

    >>> round(distance_km(Place("", 0, 179, "FJ"), Place("", 0, -179, "FJ")), 1)
    222.4
    """
    if (a.lat, a.lon) > (b.lat, b.lon):
        a, b = b, a
    south, north = math.radians(a.lat), math.radians(b.lat)
    half_lat = math.sin((north - south) / 2)
    half_lon = math.sin(math.radians(b.lon - a.lon) / 2)
    chord = half_lat * half_lat + math.cos(south) * math.cos(north) * half_lon * half_lon
    return 2 * EARTH_RADIUS_KM * math.asin(min(1.0, math.sqrt(chord)))


def place_of(site: Site) -> Place:
    """Where a site is."""
    spec = site.spec
    return Place(site.name, spec.lat, spec.lon, spec.country, spec.tier)


def resolve_place(text: str, sites: Mapping[str, Site] | None = None) -> Place:
    """The place meant by a site's name, `lat,lon` or a city, tried in this order.

    Coordinates take the country of the nearest city of the gazetteer.

    Raises: InputError for coordinates out of range; NotFoundError when nothing is called so.
    """
    sites = sites or {}
    site = sites.get(text.strip())
    if site is not None:
        return place_of(site)
    numbers = _COORDINATES.fullmatch(text)
    if numbers:
        return _at(float(numbers[1]), float(numbers[2]), text)
    if _NUMBERLIKE.fullmatch(text):
        raise InputError(f"{text.strip()!r} is not a pair of coordinates", where="place", fix="write LAT,LON in degrees")
    try:
        city = find_city(text)
    except NotFoundError as error:
        near = did_you_mean(text.strip(), sites)
        if near is None:
            raise
        what = f"no site and no city called {text.strip()!r}"
        raise NotFoundError(what, where="place", fix=f"did you mean {near}?") from error
    return Place(f"{city.name}, {city.country}", city.lat, city.lon, city.country)


def _at(lat: float, lon: float, text: str) -> Place:
    if not (-90 <= lat <= 90 and -180 <= lon <= 180):
        raise InputError(
            f"{text.strip()!r} is off the globe",
            where="place",
            fix="write LAT,LON: latitude from -90 to 90, then longitude from -180 to 180",
        )
    return Place(f"{lat:g},{lon:g}", lat, lon, nearest_country(lat, lon))


@cache
def nearest_country(lat: float, lon: float) -> str:
    """Country of the gazetteer's city nearest to a point: an estimate, good away from borders. O(cities)."""
    here = Place("", lat, lon, "")
    nearest = min(all_cities(), key=lambda city: distance_km(here, Place("", city.lat, city.lon, "")))
    return nearest.country
