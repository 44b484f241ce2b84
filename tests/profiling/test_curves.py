"""Curves: monotone regression against its min-max formula, knots against the tolerance they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gridctl.profiling.curves import few_knots, relative_errors, rising

TIMES = st.lists(st.floats(0.0, 1e6, allow_subnormal=False), min_size=1, max_size=14)


def isotonic(values: list[float]) -> list[float]:
    """Least-squares isotonic regression by its min-max formula (Robertson, Wright, Dykstra 1988, theorem 1.4.4)."""
    size = len(values)
    return [
        max(min(float(np.mean(values[low : high + 1])) for high in range(place, size)) for low in range(place + 1))
        for place in range(size)
    ]


@given(TIMES)
def test_rising_is_the_isotonic_regression(values: list[float]) -> None:
    assert rising(np.array(values)) == pytest.approx(isotonic(values), rel=1e-9, abs=1e-6)


@given(TIMES)
def test_a_raised_curve_never_falls_and_keeps_its_sum(values: list[float]) -> None:
    raised = rising(np.array(values))
    assert np.all(np.diff(raised) >= 0)
    assert raised.sum() == pytest.approx(sum(values), rel=1e-9, abs=1e-6)
    assert np.array_equal(rising(raised), raised)


def test_a_curve_that_rises_is_left_alone() -> None:
    values = np.array([0.5, 0.5, 1.25, 7.0])
    assert np.array_equal(rising(values), values)


def test_a_fall_becomes_the_mean_of_what_it_spans() -> None:
    assert rising(np.array([1.0, 5.0, 3.0, 1.0, 9.0])).tolist() == [1.0, 3.0, 3.0, 3.0, 9.0]


@st.composite
def curves(draw: st.DrawFn) -> tuple[np.ndarray, list[np.ndarray]]:
    """A grid of counts and one to three curves over it."""
    at = np.array(sorted(draw(st.sets(st.integers(0, 5000), min_size=2, max_size=30))), np.float64)
    times = st.lists(st.floats(0.0, 1e5), min_size=len(at), max_size=len(at)).map(np.array)
    return at, draw(st.lists(times, min_size=1, max_size=3))


@given(curves(), st.sampled_from([0.0, 0.004, 0.03, 0.5]), st.sampled_from([0.0, 50.0]))
def test_few_knots_lose_no_more_than_their_tolerance(
    case: tuple[np.ndarray, list[np.ndarray]], tolerance: float, floor: float
) -> None:
    at, values = case
    kept = few_knots(at, values, tolerance, floor)
    assert kept == sorted(set(kept))
    assert (kept[0], kept[-1]) == (0, len(at) - 1)
    for curve in values:
        lost = np.abs(np.interp(at, at[kept], curve[kept]) - curve)
        assert np.all(lost <= tolerance * np.maximum(curve, max(floor, 1e-9)) + 1e-9)


def test_a_line_needs_its_ends_only() -> None:
    at = np.arange(1.0, 2049.0)
    assert few_knots(at, [3.0 + 0.25 * at, 8.0 * at], 1e-9) == [0, 2047]


def test_a_bend_of_one_curve_is_a_knot_of_all() -> None:
    at = np.arange(0.0, 101.0)
    assert few_knots(at, [at + 1.0, np.maximum(10.0, at)], 1e-9) == [0, 10, 100]


def test_below_the_floor_the_tolerance_is_the_floor_s() -> None:
    """A kink of 1 µs: half of 2 µs, but a fiftieth of what the floor says may be told apart."""
    at, curve = np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 1.0])
    assert few_knots(at, [curve], 0.03) == [0, 1, 2]
    assert few_knots(at, [curve], 0.03, 50.0) == [0, 2]


def test_one_point_is_one_knot() -> None:
    assert few_knots(np.array([4.0]), [np.array([9.0])], 0.1) == [0]


def test_errors_are_absolute_shares_in_percent() -> None:
    """|100/100 − 1| … |120/100 − 1|: 0, 5, 10, 15, 20 %; the median is 10, the 95th percentile 19."""
    fitted, measured = np.array([100.0, 95.0, 110.0, 85.0, 120.0]), np.full(5, 100.0)
    assert relative_errors(fitted, measured) == pytest.approx((10.0, 19.0))
