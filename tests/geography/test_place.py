"""Distances against an independent formula and by hand; places as people write them."""

import math
import random

import numpy as np
import pytest

from gridctl.errors import InputError, NotFoundError
from gridctl.geography.place import Place, distance_km, place_of, resolve_place
from gridctl.geography.sphere import EARTH_RADIUS_KM, arc_km, arcs_km, unit_vector
from gridctl.resources import Metadata, Site, SiteSpec

QUARTER_KM = math.pi / 2 * 6371.0088


def at(lat: float, lon: float) -> Place:
    return Place("", lat, lon, "FR")


def vincenty_sphere_km(a: Place, b: Place) -> float:
    """The arctangent form, which shares no step with the chord."""
    p, q, d = math.radians(a.lat), math.radians(b.lat), math.radians(b.lon - a.lon)
    across = math.hypot(math.cos(q) * math.sin(d), math.cos(p) * math.sin(q) - math.sin(p) * math.cos(q) * math.cos(d))
    return EARTH_RADIUS_KM * math.atan2(across, math.sin(p) * math.sin(q) + math.cos(p) * math.cos(q) * math.cos(d))


@pytest.mark.parametrize(
    ("a", "b", "km"),
    [
        (at(0, 0), at(0, 90), QUARTER_KM),
        (at(0, 0), at(90, 123), QUARTER_KM),
        (at(90, 0), at(-90, 77), 2 * QUARTER_KM),
        (at(90, 10), at(90, -170), 0.0),
        (at(0, 179.5), at(0, -179.5), QUARTER_KM / 90),
        (at(10, 180), at(10, -180), 0.0),
        (at(45, 0), at(46, 0), QUARTER_KM / 90),
        (at(60, 0), at(60, 180), QUARTER_KM * 2 / 3),
        (at(0, 0), at(0, 180), 2 * QUARTER_KM),
    ],
)
def test_distances_by_hand(a, b, km):
    assert distance_km(a, b) == pytest.approx(km, abs=1e-6)


def test_distance_agrees_with_another_formula_anywhere():
    draw = random.Random(5)
    for _ in range(3000):
        a, b = (at(draw.uniform(-90, 90), draw.uniform(-180, 180)) for _ in range(2))
        assert distance_km(a, b) == pytest.approx(vincenty_sphere_km(a, b), abs=1e-6)
        assert distance_km(a, b) == distance_km(b, a)


def test_points_metres_apart_keep_their_distance():
    assert distance_km(at(48.85, 2.35), at(48.85001, 2.35)) == pytest.approx(0.00001 * QUARTER_KM / 90, rel=1e-6)


def test_many_distances_at_once_equal_one_at_a_time_to_the_last_bit():
    draw = random.Random(6)
    vectors = [unit_vector(draw.uniform(-90, 90), draw.uniform(-180, 180)) for _ in range(500)]
    rows = arcs_km(vectors[0], np.array(vectors).T)
    assert rows.tolist() == [arc_km(vectors[0], other) for other in vectors]


def test_a_site_wins_over_a_city_of_its_name():
    site = Site(metadata=Metadata(name="paris"), spec=SiteSpec(lat=1, lon=2, country="US", tier="core"))
    place = resolve_place("paris", {"paris": site})
    assert place == place_of(site) == Place("paris", 1, 2, "US", "core")


def test_coordinates_take_the_country_of_the_nearest_city():
    assert resolve_place("48.85, 2.35") == Place("48.85,2.35", 48.85, 2.35, "FR")
    assert resolve_place("-33.87,151.21").country == "AU"
    assert resolve_place("0,180").country == "KI"


@pytest.mark.parametrize("text", ["95,0", "0,181", "-90.1,0", "nan,0", "inf,0", "1.2.3,4", "1,2,3", "1e5,3"])
def test_coordinates_off_the_globe_are_input_errors(text):
    with pytest.raises(InputError):
        resolve_place(text)


def test_a_mistyped_site_is_recognised():
    site = Site(metadata=Metadata(name="xx-qqqqq-01"), spec=SiteSpec(lat=1, lon=2, country="US", tier="core"))
    with pytest.raises(NotFoundError) as caught:
        resolve_place("xx-qqqqq-02", {"xx-qqqqq-01": site})
    assert caught.value.fix == "did you mean xx-qqqqq-01?"
