"""Projection and axes: places where a map has them, numbers where an axis does."""

from __future__ import annotations

import math

import pytest

from gridctl.report.axis import Scale, ticks, time_ticks
from gridctl.report.projection import fitted


def test_every_place_is_in_the_window_that_was_fitted_to_it() -> None:
    points = [(60.0, 25.0), (38.7, -9.1), (52.2, 21.0), (53.3, -6.3)]
    view = fitted(points, 960, 380, 620)
    assert all(view.holds(*view.at(lat, lon)) for lat, lon in points)
    assert 380 <= view.height <= 620


def test_north_is_up_and_east_is_right() -> None:
    view = fitted([(40, 0), (50, 10)], 100, 50, 100)
    assert view.at(50, 0)[1] < view.at(40, 0)[1]
    assert view.at(40, 10)[0] > view.at(40, 0)[0]


def test_the_middle_of_the_view_is_true_to_scale() -> None:
    """At the standard parallel a degree of longitude is cos(latitude) degrees of latitude long."""
    view = fitted([(59, 0), (61, 8)], 400, 100, 400)
    east = view.at(60, 5)[0] - view.at(60, 4)[0]
    south = view.at(59.5, 4)[1] - view.at(60.5, 4)[1]
    assert east / south == pytest.approx(math.cos(math.radians(60)), rel=1e-9)


def test_a_grid_across_the_antimeridian_stays_in_one_piece() -> None:
    view = fitted([(-36.8, 174.8), (-18.1, 178.4), (-13.8, -171.8)], 960, 380, 620)
    auckland, suva, apia = (view.at(*point)[0] for point in ((-36.8, 174.8), (-18.1, 178.4), (-13.8, -171.8)))
    assert auckland < suva < apia
    assert apia - auckland > 250


@pytest.mark.parametrize("points", [[], [(0.0, 0.0)], [(90.0, 180.0), (-90.0, -180.0)], [(89.9, 0.0), (89.8, 179.0)]])
def test_any_places_have_a_map(points: list[tuple[float, float]]) -> None:
    view = fitted(points, 960, 380, 620)
    assert view.scale > 0
    assert all(math.isfinite(value) for lat, lon in points for value in view.at(lat, lon))


def test_ticks_reach_the_largest_value_in_few_round_steps() -> None:
    for high in (0.0013, 0.9, 1, 7, 33.1, 99, 1018, 8.8e6):
        found = ticks(high)
        assert found[0] == 0
        assert found[-2] < high <= found[-1]
        assert 3 <= len(found) <= 7


def test_moments_are_round_and_within_the_run() -> None:
    assert time_ticks(86_400, 4) == [(0, "0"), (21_600, "6 h"), (43_200, "12 h"), (64_800, "18 h"), (86_400, "24 h")]
    assert [at for at, _ in time_ticks(1e7, 5)][-1] <= 1e7


def test_a_logarithmic_axis_gives_decades_the_same_length() -> None:
    scale = Scale(1, 1000, 0, 300, is_log=True)
    assert [scale.at(value) for value in (1, 10, 100, 1000)] == pytest.approx([0, 100, 200, 300])
    assert scale.at(0.001) == 0
