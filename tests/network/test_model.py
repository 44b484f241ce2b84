"""The round-trip model: what must hold whatever was fitted."""

import itertools
import math
import random

import pytest

from gridctl.errors import InputError
from gridctl.geography.place import Place, distance_km
from gridctl.geography.regions import REGIONS, countries, region_of
from gridctl.network.areas import AREAS, area_of, pair_key, region_of_area
from gridctl.network.coefficients import AREA_DEVIATIONS, COUNTRY_MS, LOG_RESIDUALS, QUANTILES, REGION_LINES
from gridctl.network.curve import curve_of, evaluate_one
from gridctl.network.model import pair_class, rtt_interval_ms, rtt_ms

LIGHT_IN_FIBRE_KM_PER_MS = 299.792458 / 1.468

PARIS = Place("paris", 48.853, 2.349, "FR")
LONDON = Place("london", 51.509, -0.126, "GB")
NEW_YORK = Place("new-york", 40.714, -74.006, "US")


def anywhere(draw: random.Random) -> Place:
    return Place("", draw.uniform(-90, 90), draw.uniform(-180, 180), draw.choice(countries()))


def test_a_round_trip_is_the_same_both_ways_and_no_faster_than_light_in_fibre():
    draw = random.Random(1)
    for _ in range(3000):
        a, b = anywhere(draw), anywhere(draw)
        assert rtt_ms(a, b) == rtt_ms(b, a)
        assert rtt_ms(a, b) >= 2 * distance_km(a, b) / LIGHT_IN_FIBRE_KM_PER_MS - 0.001
        assert rtt_ms(a, b) >= 0.3


@pytest.mark.parametrize("country", ["FR", "US", "BR", "IN", "CN", "RU", "ZA", "SA", "AU", "NG"])
def test_time_never_falls_with_distance(country):
    other = {"FR": "DE", "BR": "AR", "IN": "SG", "SA": "US"}.get(country, country)
    times = [rtt_ms(Place("", 0.0, 1.0, country), Place("", 0.0, 1.0 + degrees / 4, other)) for degrees in range(716)]
    assert all(a <= b for a, b in itertools.pairwise(times))


def test_every_pair_of_areas_has_a_curve_that_never_falls():
    for a, b in itertools.combinations_with_replacement(AREAS, 2):
        line = REGION_LINES.get(pair_key(region_of_area(a), region_of_area(b)), (20.0, 17.0))
        curve = curve_of(line, AREA_DEVIATIONS.get(pair_key(a, b), (0.0, 0.0)))
        for share in (-15.0, 0.0, 25.0):
            times = [evaluate_one(curve, km, share) for km in range(0, 20_001, 250)]
            assert all(x <= y for x, y in itertools.pairwise(times)), (a, b)


def test_a_curve_by_hand():
    # 10 ms, then 20, 30, 40 and 50 ms per 1,000 km in the four segments; the pair deviates by 5 ms and 2 per 1,000 km.
    curve = curve_of((10, 20, 30, 40, 50), (5, 2))
    # At 100 km: 10 + 2 + 5·0.1 + 0.2 = 12.7. At 500: 10 + 2 + 12 + 2.5 + 1 = 27.5. At 1,000: 24 + 20 + 5 + 2 = 51.
    # At 2,000: 24 + 60 + 5 + 4 = 93; beyond, 52 per 1,000 km.
    assert evaluate_one(curve, 0, 0) == 0.3
    assert evaluate_one(curve, 50, 0) == pytest.approx((0.3 + 12.7) / 2)
    assert evaluate_one(curve, 100, 0) == pytest.approx(12.7)
    assert evaluate_one(curve, 500, 0) == pytest.approx(27.5)
    assert evaluate_one(curve, 750, 0) == pytest.approx((27.5 + 51) / 2)
    assert evaluate_one(curve, 2000, 0) == pytest.approx(93)
    assert evaluate_one(curve, 3000, 0) == pytest.approx(145)
    # Countries that add 8 ms do so in full from 1,000 km and by half at 500.
    assert evaluate_one(curve, 500, 8) == pytest.approx(31.5)
    assert evaluate_one(curve, 3000, 8) == pytest.approx(153)


def test_a_line_that_would_be_faster_than_light_is_not():
    assert evaluate_one(curve_of((-50, 5), (0, 0)), 5000, 0) == 50.0


def test_floors_rise_with_the_tier():
    def here(tier):
        return rtt_ms(PARIS, Place("", PARIS.lat, PARIS.lon, "FR", tier))

    assert [here(tier) for tier in (None, "edge", "metro", "regional", "core")] == [0.3, 0.3, 0.5, 0.7, 1.0]


def test_the_antimeridian_is_no_wall():
    west, east = Place("", -18.1, 179.9, "FJ"), Place("", -18.1, -179.9, "FJ")
    assert rtt_ms(west, east) < 5


def test_known_routes_are_in_their_known_range():
    # Public looking-glass figures: Paris–London 7 to 15 ms, Paris–New York 70 to 95, Tokyo–New York 150 to 200.
    tokyo = Place("", 35.69, 139.69, "JP")
    assert 7 < rtt_ms(PARIS, LONDON) < 15
    assert 70 < rtt_ms(PARIS, NEW_YORK) < 95
    assert 150 < rtt_ms(tokyo, NEW_YORK) < 200


def test_the_interval_holds_the_estimate_and_widens_with_coverage():
    draw = random.Random(2)
    for _ in range(500):
        a, b = anywhere(draw), anywhere(draw)
        half, most = rtt_interval_ms(a, b, 0.5), rtt_interval_ms(a, b, 0.99)
        assert most[0] <= half[0] <= rtt_ms(a, b) <= half[1] <= most[1]


def test_the_interval_is_the_quantiles_around_the_estimate():
    at = dict(zip(QUANTILES, LOG_RESIDUALS["inter-region"], strict=True))
    low, high = rtt_interval_ms(PARIS, NEW_YORK, 0.9)
    assert low == pytest.approx(rtt_ms(PARIS, NEW_YORK) * math.exp(at[0.05]))
    assert high == pytest.approx(rtt_ms(PARIS, NEW_YORK) * math.exp(at[0.95]))


@pytest.mark.parametrize("coverage", [0.0, -1.0, 0.999, float("nan")])
def test_an_impossible_coverage_is_refused(coverage):
    with pytest.raises(InputError, match="coverage"):
        rtt_interval_ms(PARIS, LONDON, coverage)


def test_classes_of_pairs():
    assert pair_class(PARIS, PARIS) == "same-country"
    assert pair_class(PARIS, LONDON) == "same-region"
    assert pair_class(PARIS, NEW_YORK) == "inter-region"


def test_areas_part_regions_and_cover_every_country():
    for country in countries():
        for lon in (-120.0, 0.0):
            area = area_of(country, lon)
            assert area in AREAS
            assert region_of_area(area) == region_of(country)
    assert {region_of_area(area) for area in AREAS} == set(REGIONS)
    assert len(AREAS) == 22
    assert set(COUNTRY_MS) <= set(countries())
