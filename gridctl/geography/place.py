"""Place: a named point on the globe, and how the words a person types become one.

Decides which distance every other room uses, the great circle of `sphere`. Must not estimate time. There is no special
case at the poles or across the antimeridian.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from gridctl.errors import InputError, NotFoundError, did_you_mean
from gridctl.geography.cities import all_cities, find_city
from gridctl.geography.sphere import arc_km, unit_vector
from gridctl.resources import Site
from gridctl.resources.site import Tier

_COORDINATES = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*,\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*")
_NUMBERLIKE = re.compile(r"\s*[+-]?(?:[\d.].*,\s*[+-]?[\d.].*|(?:nan|inf|infinity)\s*,.*)", re.IGNORECASE)


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

    >>> round(distance_km(Place("", 0, 179, "FJ"), Place("", 0, -179, "FJ")), 1)
    222.4
    """
    return arc_km(unit_vector(a.lat, a.lon), unit_vector(b.lat, b.lon))


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
        raise InputError(
            f"{text.strip()!r} is not a pair of coordinates", where="place", fix="write LAT,LON in degrees"
        )
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
    here = unit_vector(lat, lon)
    return min(all_cities(), key=lambda city: arc_km(here, unit_vector(city.lat, city.lon))).country
