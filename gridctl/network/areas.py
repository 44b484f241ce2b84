"""Areas: the 22 parts of the seven regions between which round-trip times follow one line each.

Decides where a country's cables lead: India's run west and east, Russia's west, Mexico's north. An area never crosses
a region. The United States and Canada are split at 100° W, where routes to Asia and to Europe part.
"""

from __future__ import annotations

from gridctl.geography.regions import region_of

_NORTH_AMERICA_SPLIT_LON = -100.0

_AREAS: dict[str, str] = {
    "EU-SE": "AL BA CY GR ME MK TR XK",
    "EU-E": "BY MD UA",
    "EU-RU": "RU",
    "AS-E": "HK JP KP KR MO TW",
    "AS-CN": "CN",
    "AS-SE": "BN ID IO KH LA MM MY PH SG TH TL VN",
    "AS-S": "AF BD BT IN LK MV NP PK",
    "LATAM-NW": "CO EC GF GY PE SR VE",
    "LATAM-S": "AR BO BR CL FK GS PY UY",
    "AF-N": "DZ EG EH LY MA TN",
    "AF-W": "BF BJ CD CF CG CI CM CV GA GH GM GN GQ GW LR ML MR NE NG SL SN ST TD TG",
    "AF-S": "BW LS MZ NA SZ TF ZA ZM ZW",
    "ME-W": "IL JO LB PS SY",
    "ME-N": "AM AZ GE",
}
# What is left of each region that is split.
_REST = {"EU": "EU-W", "AS": "AS-C", "LATAM": "LATAM-N", "AF": "AF-E", "ME": "ME-S", "OC": "OC"}
_AREA = {code: area for area, codes in _AREAS.items() for code in codes.split()}
AREAS: tuple[str, ...] = ("NA-W", "NA-E", *_AREAS, *_REST.values())


def area_of(country: str, lon: float) -> str:
    """The area of a place.

    Raises: InputError for a country code that is not in use.

    >>> area_of("IN", 77.2), area_of("US", -122.4), area_of("FR", 2.35)
    ('AS-S', 'NA-W', 'EU-W')
    """
    region = region_of(country)
    if region == "NA":
        return "NA-W" if lon < _NORTH_AMERICA_SPLIT_LON else "NA-E"
    return _AREA.get(country) or _REST[region]


def region_of_area(area: str) -> str:
    """The region an area is part of."""
    return area.partition("-")[0]


def pair_key(a: str, b: str) -> str:
    """One key for both directions of a pair of areas or regions."""
    return f"{a}|{b}" if a <= b else f"{b}|{a}"
