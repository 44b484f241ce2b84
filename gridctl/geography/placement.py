"""Placement: how many sites each city of a generated grid gets, and where in the city they stand.

Sites are apportioned to cities by population^0.62 (Sainte-Laguë: the next site goes to the city with the greatest
weight per 2n + 1), at most 40 to a city. The exponent makes sites grow slower than people, as points of presence do.
Everything is integer arithmetic, and a city's jitter is drawn from the seed and its own GeoNames number, so the same
seed gives the same bytes on every machine, and a larger grid keeps the places of a smaller one.
"""

from __future__ import annotations

import heapq
import random
from collections import defaultdict
from functools import lru_cache

from gridctl.geography.cities import City, all_cities, slug
from gridctl.geography.siterow import SiteRow

MAX_SITES_PER_CITY = 40
# population^0.62 = (population^31)^(1/50), kept as an integer in units of 1/1000.
_POWER, _ROOT, _SCALE = 31, 50, 1000
# Gazetteer entries nearer than this to a larger one are its districts: Brooklyn is New York.
_SUBURB_KM = 12
_KM_PER_DEGREE = 111
_DEGREE = 10_000  # coordinates are counted in 1/10,000 degree, 11 m
_SLUG_LENGTH = 50  # leaves room for the country and the number within 63 characters


def place_sites(sites: int, seed: int) -> list[SiteRow]:
    """`sites` edge sites in the world's cities, those of the heaviest cities first, numbered within each city's name.

    Cost: O((cities + sites) log cities).
    """
    cities = main_cities(most=sites)  # no city has two sites before each larger one has one
    counts = apportion([weight(city.population) for city in cities], sites, MAX_SITES_PER_CITY)
    numbers: defaultdict[str, int] = defaultdict(int)
    rows: list[SiteRow] = []
    for city, count in zip(cities, counts, strict=True):
        if not count:
            continue
        base = f"{city.country.lower()}-{slug(city.name)[:_SLUG_LENGTH].strip('-') or city.id}"
        for lat, lon in _positions(city, count, seed):
            numbers[base] += 1
            rows.append(
                SiteRow(
                    site=f"{base}-{numbers[base]:02d}",
                    city=city.name,
                    country=city.country,
                    lat=lat,
                    lon=lon,
                    tier="edge",
                    served_population=max(1, city.population // count),
                )
            )
    return rows


def apportion(weights: list[int], seats: int, most: int) -> list[int]:
    """Seats for each weight by the method of Sainte-Laguë, at most `most` each; ties go to the earlier.

    Source: A. Sainte-Laguë, "La représentation proportionnelle et la méthode des moindres carrés", 1910.

    >>> apportion([53, 24, 23], 7, most=40)
    [3, 2, 2]
    >>> apportion([53, 24, 23], 7, most=2)
    [2, 2, 2]
    """
    counts = [0] * len(weights)
    shift = 10**9
    queue = [(-w * shift, i) for i, w in enumerate(weights)]
    heapq.heapify(queue)
    for _ in range(seats):
        if not queue:
            break
        _, i = queue[0]
        counts[i] += 1
        if counts[i] >= most:
            heapq.heappop(queue)
        else:
            heapq.heapreplace(queue, (-(weights[i] * shift // (2 * counts[i] + 1)), i))
    return counts


@lru_cache(maxsize=65_536)
def weight(population: int) -> int:
    """⌊1000 · population^0.62⌋, exactly: a floating-point guess, corrected by comparing integer powers.

    >>> weight(1), weight(1_000_000)
    (1000, 5248074)
    """
    target: int = population**_POWER * _SCALE**_ROOT
    guess = int(_SCALE * float(population) ** (_POWER / _ROOT))
    while guess**_ROOT > target:
        guess -= 1
    while (guess + 1) ** _ROOT <= target:
        guess += 1
    return guess


def main_cities(most: int) -> list[City]:
    """The `most` most populous cities that are not districts or suburbs of a larger one."""
    kept: list[City] = []
    cells: dict[tuple[int, int], list[City]] = {}
    for city in all_cities():
        if len(kept) == most:
            break
        row, column = _cell(city)
        if any(
            squared_km(city.lat, city.lon, other.lat, other.lon) < _SUBURB_KM**2
            for north in (row - 1, row, row + 1)
            for east in (column - 1, column, column + 1)
            for other in cells.get((north, east), ())
        ):
            continue
        cells.setdefault((row, column), []).append(city)
        kept.append(city)
    return kept


def _cell(city: City) -> tuple[int, int]:
    """A square of at least `_SUBURB_KM` north to south; good to 60° of latitude east to west, which is enough here."""
    return int(city.lat * 9) // 1, int(city.lon * 4) // 1


def squared_km(lat: float, lon: float, other_lat: float, other_lon: float) -> int:
    """Square of the distance on a flat map, in whole numbers: for comparing places, the same on every machine.

    A degree of longitude shrinks with latitude as cos φ, here (180² − 4φ²) / (180² + φ²), which is right to 0.2 %.
    Source: Bhaskara I, Mahabhaskariya, 7th century."""
    middle = (int(lat) + int(other_lat)) // 2
    north = int((lat - other_lat) * _DEGREE) * _KM_PER_DEGREE
    around = abs(int((lon - other_lon) * _DEGREE))
    east = (
        min(around, 360 * _DEGREE - around)
        * _KM_PER_DEGREE
        * (32_400 - 4 * middle * middle)
        // (32_400 + middle * middle)
    )
    return (north * north + east * east) // _DEGREE**2


def _positions(city: City, count: int, seed: int) -> list[tuple[float, float]]:
    """The first site at the centre, the others jittered: a wider square for each further site, to at most 0.2°."""
    draw = random.Random(f"{seed}/{city.id}")
    lat, lon = round(city.lat * _DEGREE), round(city.lon * _DEGREE)
    positions = [(lat / _DEGREE, lon / _DEGREE)]
    for index in range(1, count):
        reach = min(2000, 300 + 100 * index)
        north = draw.getrandbits(32) % (2 * reach + 1) - reach
        east = draw.getrandbits(32) % (2 * reach + 1) - reach
        shifted = min(90 * _DEGREE, max(-90 * _DEGREE, lat + north))
        turned = (lon + east + 180 * _DEGREE) % (360 * _DEGREE) - 180 * _DEGREE
        positions.append((shifted / _DEGREE, turned / _DEGREE))
    return positions
