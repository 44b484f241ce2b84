"""Apportionment in integers."""

from decimal import Decimal, getcontext

import pytest

from gridctl.geography.placement import MAX_SITES_PER_CITY, apportion, main_cities, place_sites, squared_km, weight


def test_weight_is_the_power_floored():
    getcontext().prec = 60
    for population in (1, 2, 15_000, 999_999, 24_874_500):
        exact = (Decimal(population).ln() * Decimal("0.62")).exp() * 1000
        assert weight(population) == int(exact) or population == 1
    assert weight(1) == 1000


def test_sainte_lague_by_hand():
    # Quotients 53, 17.7, 10.6 | 24, 8 | 23, 7.7: the seven largest are 53 24 23 17.7 10.6 8 7.7 (53/7 = 7.57 is next).
    assert apportion([53, 24, 23], 7, most=40) == [3, 2, 2]
    assert apportion([53, 24, 23], 8, most=40) == [4, 2, 2]


def test_the_cap_holds_and_seats_go_on_to_others():
    assert apportion([1000, 1], 5, most=3) == [3, 2]
    assert apportion([5], 9, most=3) == [3]


def test_a_larger_grid_keeps_the_places_of_a_smaller_one():
    small = {(row.lat, row.lon) for row in place_sites(300, 3)}
    large = {(row.lat, row.lon) for row in place_sites(900, 3)}
    assert small < large


def test_districts_are_no_cities_of_their_own():
    names = {city.name for city in main_cities(2000)}
    assert "New York City" in names
    assert "Brooklyn" not in names


def test_flat_distances_are_near_the_true_ones():
    # Paris to Frankfurt is 478 km; the second pair crosses the antimeridian.
    assert squared_km(48.85, 2.35, 50.11, 8.68) ** 0.5 == pytest.approx(478, rel=0.02)
    assert squared_km(0, 179.9, 0, -179.9) ** 0.5 == pytest.approx(22.2, rel=0.01)


def test_no_city_has_more_than_forty_sites():
    counts: dict[str, int] = {}
    for row in place_sites(50_000, 1):
        key = row.site.rsplit("-", 1)[0]
        counts[key] = counts.get(key, 0) + 1
        assert -90 <= row.lat <= 90
        assert -180 <= row.lon <= 180
    assert counts["cn-shanghai"] <= MAX_SITES_PER_CITY
    assert sum(counts.values()) == 50_000
