"""Model: round-trip time between two places, from where they are and how far apart.

Fitted on WonderNetwork city-to-city ping averages of November 2018 (12,234 pairs of 157 cities on the public
internet, server to server, no last mile). Mean absolute error on cities the fit has not seen: 28.6 ms, median 13.8,
bias −10.2 (least absolute deviations leave the tail of slow hosts above). `tests/bench/fit_rtt.py` fits it and measures
the error; `gridctl network validate` measures it on your own pings.

A pair of places takes the curve of its pair of areas (`areas`, `curve`), plus what each country adds at its end, and is
never below a floor for the equipment at either end. An area pair that was not measured takes its regions' line, and
regions that were not, one line over everything. Symmetric to the last bit; never falls with distance within a pair of
areas and countries; whole microseconds. A link (`overrides`) is measured and wins over all of this.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Literal

from gridctl.errors import InputError
from gridctl.geography.place import Place, distance_km
from gridctl.geography.regions import region_of
from gridctl.network.areas import area_of, pair_key, region_of_area
from gridctl.network.coefficients import AREA_DEVIATIONS, BASE, COUNTRY_MS, LOG_RESIDUALS, QUANTILES, REGION_LINES
from gridctl.network.curve import FIBRE_MS_PER_KM, SAME_METRO_MS, Curve, curve_of, evaluate_one
from gridctl.resources.site import Tier

MODEL_ERROR_MS = 28.6
"""Mean absolute error on cities not used in the fit."""

PairClass = Literal["same-country", "same-region", "inter-region"]

# Least round trip to equipment of each tier: an assumption for switching and aggregation on the way in.
TIER_FLOOR_MS: dict[Tier | None, float] = {
    None: SAME_METRO_MS,
    "edge": SAME_METRO_MS,
    "metro": 0.5,
    "regional": 0.7,
    "core": 1.0,
}


def rtt_ms(a: Place, b: Place) -> float:
    """Estimated round-trip time, in whole microseconds, without the last mile.

    >>> paris, london = Place("", 48.853, 2.349, "FR"), Place("", 51.509, -0.126, "GB")
    >>> 5 < rtt_ms(paris, london) < 25
    True
    """
    area_a, area_b = area_of(a.country, a.lon), area_of(b.country, b.lon)
    share = COUNTRY_MS.get(a.country, 0.0) + COUNTRY_MS.get(b.country, 0.0)
    along = evaluate_one(curve_between(pair_key(area_a, area_b)), distance_km(a, b), share)
    floor = max(TIER_FLOOR_MS[a.tier], TIER_FLOOR_MS[b.tier])
    return math.floor(max(along, floor) * 1000 + 0.5) / 1000


@cache
def curve_between(areas: str) -> Curve:
    """The curve of a pair of areas (`pair_key`)."""
    a, b = areas.split("|")
    regions = pair_key(region_of_area(a), region_of_area(b))
    return curve_of(REGION_LINES.get(regions, BASE), AREA_DEVIATIONS.get(areas, (0.0, 0.0)))


def pair_class(a: Place, b: Place) -> PairClass:
    """How far apart two places are on the map of countries and regions; errors are stated by this class."""
    if a.country == b.country:
        return "same-country"
    return "same-region" if region_of(a.country) == region_of(b.country) else "inter-region"


def rtt_interval_ms(a: Place, b: Place, coverage: float = 0.9) -> tuple[float, float]:
    """The interval that holds `coverage` of measured pairs of this class around their estimate on cities unseen.

    It says how wrong the model may be, not how a connection varies over time (`jitter` does). At most 0.99.

    Raises: InputError for a coverage outside 0 to 0.99.
    """
    if not 0 < coverage <= QUANTILES[-1] - QUANTILES[0]:
        raise InputError(f"coverage is {coverage:g}", where="coverage", fix="give a share above 0, at most 0.99")
    estimate = rtt_ms(a, b)
    residuals = LOG_RESIDUALS[pair_class(a, b)]
    low = estimate * math.exp(_interpolated(residuals, 0.5 - coverage / 2))
    high = estimate * math.exp(_interpolated(residuals, 0.5 + coverage / 2))
    fastest = max(SAME_METRO_MS, FIBRE_MS_PER_KM * distance_km(a, b))
    return min(estimate, max(low, fastest)), max(estimate, high)


def _interpolated(residuals: Sequence[float], probability: float) -> float:
    for index in range(1, len(QUANTILES)):
        low, high = QUANTILES[index - 1], QUANTILES[index]
        if probability <= high:
            share = max(0.0, (probability - low) / (high - low))
            return residuals[index - 1] + share * (residuals[index] - residuals[index - 1])
    return residuals[-1]
