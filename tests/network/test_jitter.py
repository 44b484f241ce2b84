"""The jitter table: a quantile function with mean zero."""

import itertools

import pytest

from gridctl.network.jitter import JITTER_PPM, jitter_quantile_ppm


def test_there_are_65_knots_that_never_fall_and_no_ping_is_negative():
    assert len(JITTER_PPM) == 65
    assert all(a <= b for a, b in itertools.pairwise(JITTER_PPM))
    assert JITTER_PPM[0] > -1_000_000
    assert all(isinstance(knot, int) for knot in JITTER_PPM)


def test_the_mean_is_zero():
    trapezoids = sum((a + b) / 2 for a, b in itertools.pairwise(JITTER_PPM)) / 64
    assert abs(trapezoids) < 2


def test_quantiles_run_straight_between_knots():
    assert jitter_quantile_ppm(0) == JITTER_PPM[0]
    assert jitter_quantile_ppm(0.5) == JITTER_PPM[32]
    assert jitter_quantile_ppm(1) == JITTER_PPM[64]
    assert jitter_quantile_ppm(63.5 / 64) == pytest.approx((JITTER_PPM[63] + JITTER_PPM[64]) / 2)


def test_the_stated_figures_hold():
    assert jitter_quantile_ppm(0.95) < 11_000
    assert jitter_quantile_ppm(0.99) == pytest.approx(420_000, rel=0.02)


def test_the_mean_deviation_of_the_measurements_is_kept(measured, fitting):
    """The pooled variance of the atoms, from the measurements' own columns, against that of the table."""
    _, measurements = fitting.load(*measured)
    assert fitting.jitter_ppm(measurements) == list(JITTER_PPM)
    relative = [(m.spread_ms[2] / m.rtt_ms) ** 2 for m in measurements]
    pooled = sum(relative) / len(relative)
    segments = itertools.pairwise(JITTER_PPM)
    of_table = sum((a * a + a * b + b * b) / 3 for a, b in segments) / 64 / 1e12
    # A table of 64 segments cannot hold the few pings that took ten times the average.
    assert 0.1 * pooled < of_table < pooled
