"""Fits without negative coefficients, against exhaustive search and against medians."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gridctl.profiling.nonnegative import nonnegative_least_deviations, nonnegative_least_squares

Floats = NDArray[np.float64]


def exhaustive(matrix: Floats, target: Floats) -> float:
    """The least squared error over every choice of columns whose least-squares solution is not negative."""
    columns = matrix.shape[1]
    best = float(target @ target)
    for size in range(1, columns + 1):
        for chosen in itertools.combinations(range(columns), size):
            part = matrix[:, chosen]
            solution = np.linalg.lstsq(part, target, rcond=None)[0]
            if (solution >= 0).all():
                best = min(best, float(((part @ solution - target) ** 2).sum()))
    return best


@given(st.integers(0, 2**32 - 1))
def test_least_squares_are_as_small_as_exhaustive_search_finds(seed: int) -> None:
    random = np.random.default_rng(seed)
    matrix, target = random.normal(size=(8, 4)), random.normal(size=8)
    solution = nonnegative_least_squares(matrix, target)
    assert (solution >= 0).all()
    assert ((matrix @ solution - target) ** 2).sum() == pytest.approx(exhaustive(matrix, target), rel=1e-6)


def test_columns_of_very_different_size_are_solved_exactly() -> None:
    truth = np.array([8e-3, 0.0, 31e-9, 1.1e-9])
    random = np.random.default_rng(3)
    matrix = random.uniform(0.5, 1.5, (30, 4)) * np.array([1.0, 100.0, 1e4, 8e6])
    assert nonnegative_least_squares(matrix, matrix @ truth) == pytest.approx(truth, rel=1e-6, abs=1e-12)


def test_equal_columns_and_empty_ones_do_no_harm() -> None:
    matrix = np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 0.0], [3.0, 3.0, 0.0]])
    solution = nonnegative_least_squares(matrix, np.array([2.0, 4.0, 6.0]))
    assert matrix @ solution == pytest.approx([2.0, 4.0, 6.0])


def test_least_deviations_of_one_constant_are_the_median() -> None:
    target = np.array([1.0, 1.1, 1.3, 9.0, 50.0])
    assert nonnegative_least_deviations(np.ones((5, 1)), target) == pytest.approx([1.3], rel=1e-2)


def test_a_fifth_of_wild_measurements_does_not_move_least_deviations() -> None:
    random = np.random.default_rng(5)
    matrix = np.column_stack([np.ones(50), np.linspace(0, 10, 50)])
    target = matrix @ np.array([1.0, 0.2])
    target[random.choice(50, 10, replace=False)] *= 4.0
    assert nonnegative_least_deviations(matrix, target) == pytest.approx([1.0, 0.2], rel=1e-3)


def test_a_falling_line_gets_no_negative_slope() -> None:
    matrix = np.column_stack([np.ones(9), np.arange(9.0)])
    solution = nonnegative_least_deviations(matrix, 10.0 - np.arange(9.0))
    assert solution == pytest.approx([6.0, 0.0], rel=1e-2)
